/*
 * The relay of one shard with its reader, its producer, the breaker and all
 * rules, as they are in the helper; between a Kafka, a database and a clock
 * that are played here.
 *
 * Whatever happens, no row is deleted that was not published, and a payment's
 * events are published in the order of their versions.
 */

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>


static int test_clock(clockid_t id, struct timespec *ts);

#define clock_gettime  test_clock


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include <librdkafka/rdkafka.h>
#include <mysql.h>


/* what librdkafka is asked */

static rd_kafka_resp_err_t test_produce(rd_kafka_t *rk, ...);
static const rd_kafka_message_t *test_next_report(rd_kafka_event_t *event);
static rd_kafka_resp_err_t test_purge(int flags);

#define rd_kafka_producev                      test_produce
#define rd_kafka_event_message_next            test_next_report
#define rd_kafka_purge(rk, flags)              test_purge(flags)
#define rd_kafka_new(type, conf, text, size)                                  \
    (rd_kafka_conf_destroy(conf), (rd_kafka_t *) &test_kafka)
#define rd_kafka_destroy(rk)                   (void) (rk)
#define rd_kafka_set_log_queue(rk, queue)      0
#define rd_kafka_queue_get_main(rk)            ((rd_kafka_queue_t *) (rk))
#define rd_kafka_queue_destroy(queue)          (void) (queue)
#define rd_kafka_queue_io_event_enable(queue, fd, data, size)                 \
    (void) (data)
#define rd_kafka_topic_new(rk, name, conf)                                    \
    (rd_kafka_topic_conf_destroy(conf), (rd_kafka_topic_t *) &test_kafka)
#define rd_kafka_topic_destroy(topic)          (void) (topic)
#define rd_kafka_default_topic_conf_dup(rk)    rd_kafka_topic_conf_new()


/* and the database's library */

static MYSQL_ROW test_fetch_row(MYSQL_RES *result);

#define mysql_fetch_row                        test_fetch_row
#define mysql_fetch_lengths(result)            test_lengths


#define TEST_ROWS        8000
#define TEST_PARTITIONS  4
#define TEST_PAYMENTS    2000
#define TEST_FEW         200        /* payments, with many changes each */
#define TEST_BATCH       20         /* rows of a read */
#define TEST_IN_FLIGHT   200
#define TEST_MESSAGES    1000       /* with Kafka at a time */
#define TEST_STEP        20         /* ms */

/* of a Kafka that is far: requests at a time, of one partition each, and ms */
#define TEST_REQUESTS    3
#define TEST_FAR         300
#define TEST_SEEDS       3


static char           test_kafka;   /* where a handle points to */
static unsigned long  test_lengths[16];


#include "payment_aside.c"
#include "payment_floor.c"
#include "payment_inflight.c"
#include "payment_pace.c"
#include "payment_stopwatch.c"
#include "payment_window.c"

#include "ngx_payment_breaker.c"
#include "ngx_payment_command.c"
#include "ngx_payment_dead.c"
#include "ngx_payment_news.c"
#include "ngx_payment_outbox_shard.c"
#include "ngx_payment_producer.c"
#include "ngx_payment_producer_brokers.c"
#include "ngx_payment_producer_lanes.c"
#include "ngx_payment_producer_message.c"
#include "ngx_payment_producer_remains.c"
#include "ngx_payment_producer_topic.c"
#include "ngx_payment_reader.c"
#include "ngx_payment_relay.c"
#include "ngx_payment_rights.c"
#include "ngx_payment_row.c"
#include "ngx_payment_storm.c"
#include "ngx_payment_thread.c"


typedef struct {
    uint64_t        id;
    unsigned        payment;
    unsigned        version;
    unsigned        partition;
    uint64_t        created_us;
    unsigned        published;      /* times */
    unsigned        there:1;        /* in outbox_event */
    unsigned        hidden:1;       /* and not committed */
    unsigned        on_disk:1;      /* proved, or a barrier was behind it */
    unsigned        dead:1;         /* in outbox_dead */
    unsigned        large:1;        /* Kafka refuses it */
    unsigned        lost:1;         /* no answer comes, the first time */
    unsigned        skipped:1;      /* Kafka takes what is behind it alone, the
                                       first time, and the library says that it
                                       has both */
    unsigned        untold:1;       /* its worker has not told of it */
} test_row_t;


typedef struct {
    payment_event_t  *e;
    test_row_t       *row;
    uint64_t          sent_ns;
    uint64_t          due_ns;       /* far Kafka: of its answer; 0: queued */
} test_message_t;


typedef struct {
    test_row_t      *rows[TEST_ROWS];
    ngx_uint_t       n;
    ngx_uint_t       at;            /* the next one */
} test_result_t;


static struct {
    uint64_t         now_ns;
    uint64_t         seed;

    test_row_t       rows[TEST_ROWS];
    ngx_uint_t       nrows;
    test_row_t      *latest[TEST_PAYMENTS];
    u_char           dead[TEST_ROWS];   /* by payment: it has dead letters */
    test_result_t    results[NGX_PAYMENT_READ_STMTS];

    test_message_t   messages[TEST_MESSAGES];
    ngx_uint_t       nmessages;
    ngx_uint_t       takes[TEST_PARTITIONS];    /* messages in a step */
    rd_kafka_message_t  reports[TEST_MESSAGES];
    ngx_uint_t       nreports;
    ngx_uint_t       report;        /* the next one to be told */

    ngx_uint_t       early;         /* messages whose row was not seen */
    ngx_uint_t       warnings;      /* that nothing can be set aside */
    ngx_uint_t       refusals;      /* that a lane or a topic takes none */
    uint64_t         requests[TEST_REQUESTS];   /* far Kafka: the answers */
    unsigned         far;           /* ms; 0: Kafka is near */
    unsigned         alone:1;       /* there is no other node */
    unsigned         tells:1;       /* workers tell of what they commit */
    unsigned         none_for_1:1;
} test;


static ngx_payment_stats_t        stats;
static ngx_payment_proved_t       proved;
static ngx_payment_news_ring_t    ring;
static ngx_payment_outbox_conf_t  conf;
static ngx_payment_shard_t        shard;
static ngx_payment_relay_t        relay;
static ngx_payment_relays_t       relays;
static ngx_log_t                  test_log;
static ngx_connection_t           test_connection;
static ngx_event_t                test_read_event;


static uint64_t test_hash(unsigned payment);
static void test_room(void *data);


/* nginx, as far as it is used */

volatile ngx_cycle_t   *ngx_cycle;
volatile ngx_msec_t     ngx_current_msec;
ngx_rbtree_t            ngx_event_timer_rbtree;
ngx_queue_t             ngx_posted_events;
ngx_queue_t             ngx_posted_next_events;
uint32_t                ngx_crc32_table256[256];


static int
test_clock(clockid_t id, struct timespec *ts)
{
    uint64_t  now;

    (void) id;

    now = test.now_ns;
    ts->tv_sec = (time_t) (now / 1000000000);
    ts->tv_nsec = (long) (now % 1000000000);

    return 0;
}


void
ngx_log_error_core(ngx_uint_t level, ngx_log_t *log, ngx_err_t err,
    const char *fmt, ...)
{
    if (ngx_strstr(fmt, "no more can be set aside")) {
        test.warnings++;
    }

    if (ngx_strstr(fmt, "takes no events")
        || ngx_strstr(fmt, "takes no other"))
    {
        test.refusals++;
    }
}


/* Workers are this program. */

ngx_uint_t
ngx_shmtx_trylock(ngx_shmtx_t *mtx)
{
    return 1;
}


/* No text is made of numbers here: nobody reads the SQL. */

u_char *
ngx_vslprintf(u_char *buf, u_char *last, const char *fmt, va_list args)
{
    return buf;
}


u_char *
ngx_sprintf(u_char *buf, const char *fmt, ...)
{
    return buf;
}


u_char *
ngx_snprintf(u_char *buf, size_t max, const char *fmt, ...)
{
    return buf;
}


ngx_int_t
ngx_atoi(u_char *line, size_t n)
{
    ngx_int_t  value;

    for (value = 0; n--; line++) {
        value = value * 10 + (*line - '0');
    }

    return value;
}


void *
ngx_alloc(size_t size, ngx_log_t *log)
{
    return malloc(size);
}


void *
ngx_calloc(size_t size, ngx_log_t *log)
{
    return calloc(1, size);
}


void
ngx_rbtree_insert(ngx_rbtree_t *tree, ngx_rbtree_node_t *node)
{
}


void
ngx_rbtree_delete(ngx_rbtree_t *tree, ngx_rbtree_node_t *node)
{
}


void
ngx_debug_point(void)
{
}


void
ngx_close_connection(ngx_connection_t *c)
{
}


ngx_connection_t *
ngx_payment_eventfd_watch(ngx_fd_t fd, ngx_event_handler_pt handler,
    void *data, ngx_log_t *log)
{
    (void) close(fd);

    test_connection.read = &test_read_event;
    test_read_event.handler = handler;
    test_read_event.data = &test_connection;
    test_read_event.log = log;
    test_connection.data = data;

    return &test_connection;
}


void *
ngx_payment_eventfd_read(ngx_event_t *ev)
{
    return &relays.producer;
}


/* the configuration of the producer */

rd_kafka_conf_t *
ngx_payment_producer_conf_create(ngx_payment_outbox_conf_t *conf, u_char *text,
    size_t size)
{
    rd_kafka_conf_t  *rkc;

    rkc = rd_kafka_conf_new();
    (void) rd_kafka_conf_set(rkc, "enable.idempotence", "true", NULL, 0);

    return rkc;
}


ngx_msec_t
ngx_payment_producer_conf_timeout(ngx_payment_outbox_conf_t *conf)
{
    return 10000;
}


size_t
ngx_payment_producer_conf_topic(ngx_payment_outbox_conf_t *conf,
    ngx_str_t *type, u_char *name)
{
    name[0] = 't';
    name[1] = '\0';

    return 1;
}


/* the other parts of the shard */

void
ngx_payment_lease_open(ngx_payment_lease_t *l)
{
}


void
ngx_payment_lease_close(ngx_payment_lease_t *l)
{
}


void
ngx_payment_fence_open(ngx_payment_fence_t *f)
{
}


void
ngx_payment_fence_close(ngx_payment_fence_t *f)
{
    free(f->ids);
}


void
ngx_payment_fence_next(ngx_payment_fence_t *f)
{
}


void
ngx_payment_fence_soon(ngx_payment_fence_t *f)
{
}


void
ngx_payment_fence_give_up(ngx_payment_fence_t *f)
{
}


ngx_int_t
ngx_payment_fence_init(ngx_payment_fence_t *f)
{
    f->ids = malloc(NGX_PAYMENT_FENCE_IDS_MAX * sizeof(uint64_t));

    return f->ids ? NGX_OK : NGX_ERROR;
}


void
ngx_payment_fence_begin(ngx_payment_fence_t *f)
{
}


void
ngx_payment_fence_send(ngx_payment_fence_t *f)
{
}


ngx_int_t
ngx_payment_fence_check_plain(ngx_payment_fence_t *f, ngx_uint_t lost,
    const char *phase)
{
    return NGX_OK;
}


void
ngx_payment_fence_begin_fenced(ngx_payment_fence_t *f, const char *set)
{
}


void
ngx_payment_fence_commit(ngx_payment_fence_t *f)
{
}


ngx_payment_db_stmt_t *
ngx_payment_fence_add(ngx_payment_fence_t *f, const char *fmt, ...)
{
    return &f->stmts[0];
}


ngx_payment_db_stmt_t *
ngx_payment_fence_move(ngx_payment_fence_t *f,
    const ngx_payment_fence_move_t *m, ngx_str_t *condition)
{
    return &f->stmts[0];
}


ngx_uint_t
ngx_payment_fence_condition(ngx_payment_fence_t *f, ngx_uint_t n,
    ngx_str_t *condition)
{
    return n;
}


void
ngx_payment_fence_verify(ngx_payment_fence_t *f, const ngx_str_t *condition)
{
}


ngx_int_t
ngx_payment_fence_check(ngx_payment_fence_t *f, ngx_uint_t lost,
    const char *phase)
{
    return NGX_OK;
}


ngx_uint_t
ngx_payment_fence_collect(ngx_payment_fence_t *f, payment_event_state_e state,
    ngx_uint_t followers, ngx_uint_t max)
{
    ngx_uint_t        n;
    payment_event_t  *e;

    n = 0;

    for (e = payment_inflight_first(&f->sh->table, state);
         e && n < max;
         e = e->next)
    {
        if (e->follower == followers) {
            f->ids[n++] = e->id;
        }
    }

    return n;
}


void
ngx_payment_fence_deleting(ngx_payment_fence_t *f, ngx_uint_t n)
{
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {
        payment_inflight_move(payment_inflight_find(&f->sh->table, f->ids[i]),
                              PAYMENT_EVENT_DELETING);
    }
}


void
ngx_payment_delete_init(ngx_payment_delete_t *d)
{
}


void
ngx_payment_delete_close(ngx_payment_delete_t *d)
{
}


void
ngx_payment_delete_acked(ngx_payment_delete_t *d)
{
}


void
ngx_payment_delete_all(ngx_payment_delete_t *d)
{
}


ngx_int_t
ngx_payment_expiry_init(ngx_payment_expiry_t *x)
{
    return NGX_OK;
}


ngx_int_t
ngx_payment_purge_init(ngx_payment_purge_t *p)
{
    return NGX_OK;
}


/* the jobs of the fence, which is the table's own here: test_fence() */

#define test_job(name)                                                        \
    ngx_int_t ngx_payment_##name##_step(void *part, uint64_t now_ms)          \
    {                                                                         \
        return NGX_DECLINED;                                                  \
    }                                                                         \
                                                                              \
    void ngx_payment_##name##_done(void *part, ngx_uint_t lost)               \
    {                                                                         \
    }

test_job(lease)
test_job(delete_look)
test_job(delete_find)
test_job(delete)
test_job(archive)
test_job(expiry)
test_job(purge)


/* the database */

void
ngx_payment_db_open(ngx_payment_db_t *db)
{
    db->state = NGX_PAYMENT_DB_IDLE;
}


void
ngx_payment_db_close(ngx_payment_db_t *db)
{
}


void
ngx_payment_db_reset(ngx_payment_db_t *db)
{
}


ngx_uint_t
ngx_payment_db_fit(ngx_payment_db_t *db)
{
    return 1;
}


ngx_payment_db_error_e
ngx_payment_db_classify(ngx_uint_t error)
{
    return NGX_PAYMENT_DB_OK;
}


ngx_payment_db_stmt_t *
ngx_payment_db_error_of(ngx_payment_db_stmt_t *stmts, ngx_uint_t n)
{
    return NULL;
}


/* of a shard with durability replica, which this one is not */

const ngx_str_t *
ngx_payment_topology_unconfirmed_sql(void)
{
    fail();
    return NULL;
}


uint64_t
ngx_payment_topology_sum(MYSQL_RES *result)
{
    fail();
    return 0;
}


/* how many copies Kafka keeps: nobody asks */

/* no trace is exported here */

const u_char *
ngx_payment_producer_spans_begin(ngx_payment_producer_spans_t *s,
    payment_event_t *e, const ngx_payment_row_t *row)
{
    return NULL;
}


void
ngx_payment_producer_spans_drop(ngx_payment_producer_spans_t *s,
    payment_event_t *e)
{
}


void
ngx_payment_producer_spans_end(ngx_payment_producer_spans_t *s,
    payment_event_t *e, rd_kafka_resp_err_t err)
{
}


void
ngx_payment_producer_spans_forget(ngx_payment_producer_spans_t *s)
{
}


ngx_payment_producer_copies_t *
ngx_payment_producer_copies_create(rd_kafka_t *rk,
    ngx_payment_producer_topic_t *topics, ngx_uint_t n, ngx_log_t *log)
{
    return NULL;
}


void *
ngx_payment_producer_copies_thread(void *data)
{
    fail();
    return NULL;
}


ngx_uint_t
ngx_payment_producer_copies_told(ngx_payment_producer_copies_t *c,
    rd_kafka_event_t *event, ngx_payment_producer_topic_t *topics,
    ngx_log_t *log)
{
    fail();
    return 0;
}


void
ngx_payment_producer_copies_end(ngx_payment_producer_copies_t *c)
{
    fail();
}


void
ngx_payment_producer_copies_free(ngx_payment_producer_copies_t *c)
{
    fail();
}


/* a number below n */

static unsigned
test_number(unsigned n)
{
    test.seed = test.seed * UINT64_C(6364136223846793005)
                + 1442695040888963407;

    return (unsigned) (test.seed >> 33) % n;
}


static uint64_t
test_hash(unsigned payment)
{
    char  text[16];

    return payment_inflight_hash(text, sprintf(text, "%u", payment));
}


static test_row_t *
test_row_of(uint64_t id)
{
    ngx_uint_t  i;

    /* no id is larger than the number of its row */

    for (i = id - 1; i < test.nrows; i++) {
        if (test.rows[i].there && test.rows[i].id == id) {
            return &test.rows[i];
        }
    }

    return NULL;
}


/* by what the helper knows of it: by its id, or what it is */

static test_row_t *
test_row_of_event(payment_event_t *e)
{
    ngx_uint_t  i;

    if (!payment_inflight_is_early(e)) {
        return test_row_of(e->id);
    }

    test.early++;

    for (i = 0; i < test.nrows; i++) {
        if (test.rows[i].there && test.rows[i].version == e->version
            && test_hash(test.rows[i].payment) == e->payment)
        {
            return &test.rows[i];
        }
    }

    return NULL;
}


static void
test_select(ngx_payment_db_stmt_t *stmt, test_result_t *result, uint64_t from,
    uint64_t to, ngx_uint_t limit, unsigned hidden)
{
    ngx_uint_t  i;

    result->n = 0;
    result->at = 0;
    stmt->result = (MYSQL_RES *) result;

    for (i = from ? from - 1 : 0; i < test.nrows && result->n < limit; i++) {
        if (test.rows[i].there && test.rows[i].id >= from
            && test.rows[i].id <= to && (hidden || !test.rows[i].hidden))
        {
            result->rows[result->n++] = &test.rows[i];
        }
    }
}


static void
test_on_disk(test_result_t *result)
{
    ngx_uint_t  i;

    for (i = 0; i < result->n; i++) {
        result->rows[i]->on_disk = 1;
    }
}


/* Rows come in the order in which they were written, which is that of
 * their ids but for one that was given again. */

void
ngx_payment_db_exchange(ngx_payment_db_t *db, ngx_payment_db_stmt_t *stmts,
    ngx_uint_t n, ngx_msec_t timeout, ngx_payment_db_done_pt done)
{
    ngx_uint_t             i;
    test_result_t         *result;
    payment_event_t       *e;
    ngx_payment_reader_t  *rd;

    rd = db->data;
    result = test.results;

    for (i = 0; i < NGX_PAYMENT_READ_STMTS; i++) {

        if (rd->asked[i] == NULL) {
            continue;
        }

        switch (i) {

        case NGX_PAYMENT_READ_WANTED:
            test_select(rd->asked[i], &result[i], 1, 0, 0, 0);

            for (e = payment_inflight_first(&rd->sh->table,
                                            PAYMENT_EVENT_WANTED);
                 e;
                 e = e->next)
            {
                if (e->asked && test_row_of(e->id)) {
                    result[i].rows[result[i].n++] = test_row_of(e->id);
                }
            }

            break;

        case NGX_PAYMENT_READ_NEXT:
            test_select(rd->asked[i], &result[i], rd->cursor + 1, UINT64_MAX,
                        rd->asked_rows, 0);
            break;

        case NGX_PAYMENT_READ_BARRIER:
            test_select(rd->asked[i], &result[i], 1, UINT64_MAX, TEST_ROWS, 0);
            test_on_disk(&result[i]);
            break;

        case NGX_PAYMENT_READ_HEAD:
            test_select(rd->asked[i], &result[i],
                        ngx_max(rd->sh->floor.id, rd->sh->settled.id),
                        rd->cursor, rd->head_limit, 0);
            break;

        case NGX_PAYMENT_READ_SETTLED:
            test_select(rd->asked[i], &result[i], rd->sh->floor.id,
                        rd->sh->settled.id - 1, TEST_ROWS, 0);
            break;

        case NGX_PAYMENT_READ_UNSETTLED:
            test_select(rd->asked[i], &result[i],
                        ngx_max(rd->sh->floor.id, rd->sh->settled.id),
                        rd->cursor, rd->unsettled_limit, 1);
            break;

        default:
            test_select(rd->asked[i], &result[i], 1, 0, 0, 0);
            break;
        }
    }

    done(db, 0);
}


static char **
test_columns(test_row_t *row)
{
    ngx_uint_t      i;

    static char     texts[NGX_PAYMENT_ROW_COLUMNS_N + 1][32];
    static char    *columns[NGX_PAYMENT_ROW_COLUMNS_N + 1];

    (void) sprintf(texts[NGX_PAYMENT_ROW_ID], "%lu", row->id);
    (void) sprintf(texts[NGX_PAYMENT_ROW_VERSION], "%u", row->version);
    (void) sprintf(texts[NGX_PAYMENT_ROW_AGGREGATEID], "%u", row->payment);
    (void) strcpy(texts[NGX_PAYMENT_ROW_TYPE], "authorized");
    (void) sprintf(texts[NGX_PAYMENT_ROW_MERCHANT], "%u", row->partition);
    (void) sprintf(texts[NGX_PAYMENT_ROW_CREATED_AT],
                   "1970-01-01 %02u:%02u:%02u.%06u",
                   (unsigned) (row->created_us / 3600000000),
                   (unsigned) (row->created_us / 60000000 % 60),
                   (unsigned) (row->created_us / 1000000 % 60),
                   (unsigned) (row->created_us % 1000000));
    (void) strcpy(texts[NGX_PAYMENT_ROW_COLUMNS_N],
                  row->version > 1 && test.dead[row->payment] ? "1" : "0");

    for (i = 0; i <= NGX_PAYMENT_ROW_COLUMNS_N; i++) {
        columns[i] = texts[i];
        test_lengths[i] = strlen(texts[i]);
    }

    return columns;
}


static MYSQL_ROW
test_fetch_row(MYSQL_RES *result)
{
    test_result_t *r = (test_result_t *) result;

    return r->at < r->n ? test_columns(r->rows[r->at++]) : NULL;
}


/* Workers tell of what they have committed, sooner or later. */

static void
test_tell(void)
{
    char                          **columns;
    ngx_str_t                       texts[NGX_PAYMENT_NEWS_COLUMNS];
    ngx_uint_t                      i, n;
    test_row_t                     *row;
    ngx_payment_news_commit_t       commit;

    for (i = 0; test.tells && i < test.nrows; i++) {
        row = &test.rows[i];

        if (!row->untold || row->hidden || test_number(3) == 0) {
            continue;
        }

        row->untold = 0;
        columns = test_columns(row);

        for (n = 0; n < NGX_PAYMENT_NEWS_COLUMNS; n++) {
            texts[n].data = (u_char *) columns[NGX_PAYMENT_ROW_AGGREGATEID + n];
            texts[n].len = test_lengths[NGX_PAYMENT_ROW_AGGREGATEID + n];
        }

        commit.choice = relay.reader.db.choice;
        commit.sent_ns = test.now_ns;
        commit.answered_us = ngx_payment_unix_us();

        assert_int_equal(ngx_payment_news_put(&conf.news, &shard, &commit,
                                              texts),
                         NGX_OK);
    }
}


static void
test_hear(void *data)
{
    ngx_payment_news_item_t  item;

    while (ngx_payment_news_take(&conf.news, &item) == NGX_OK) {
        (void) ngx_payment_relay_told(&relay, &item);
    }
}


/* What the helper does under the lease: a row is named by its id. */

static void
test_fence(void)
{
    test_row_t                  *row;
    payment_event_t             *e, *next;
    ngx_payment_outbox_shard_t  *sh;

    sh = &relay.sh;

    for (e = payment_inflight_first(&sh->table, PAYMENT_EVENT_UNSURE);
         e;
         e = next)
    {
        next = e->next;
        row = test_row_of(e->id);

        if (row && e->payment == test_hash(row->payment)
            && e->version == row->version)
        {
            payment_inflight_move(e, PAYMENT_EVENT_ACKED);
        } else {
            payment_inflight_remove(e);
        }
    }

    while ((e = payment_inflight_first(&sh->table, PAYMENT_EVENT_ACKED))
           != NULL)
    {
        row = test_row_of(e->id);

        if (row) {
            assert_true(row->published);
            row->there = 0;
        }

        ngx_payment_outbox_shard_forget(sh, e);
    }

    while (ngx_payment_dead_step(&relay.dead, 0) == NGX_OK) {

        relay.dead.work->affected = 0;

        for (e = payment_inflight_first(&sh->table, PAYMENT_EVENT_DELETING);
             e;
             e = e->next)
        {
            row = test_row_of(e->id);

            if (row && e->payment == test_hash(row->payment)) {
                row->there = 0;
                row->dead = 1;
                test.dead[row->payment] = 1;
                relay.dead.work->affected++;
            }
        }

        ngx_payment_dead_done(&relay.dead, 0);
    }

    sh->handlers->deleted(sh->data);
}


/* Kafka */

static rd_kafka_resp_err_t
test_produce(rd_kafka_t *rk, ...)
{
    va_list            args;
    ngx_uint_t         i;
    test_message_t    *m;
    rd_kafka_vtype_t   type;

    assert_true(test.nmessages < TEST_MESSAGES);

    m = &test.messages[test.nmessages];
    va_start(args, rk);

    while ((type = va_arg(args, rd_kafka_vtype_t)) != RD_KAFKA_VTYPE_END) {

        switch (type) {

        case RD_KAFKA_VTYPE_PARTITION:
        case RD_KAFKA_VTYPE_MSGFLAGS:
            (void) va_arg(args, int);
            break;

        case RD_KAFKA_VTYPE_KEY:
        case RD_KAFKA_VTYPE_VALUE:
            (void) va_arg(args, void *);
            (void) va_arg(args, size_t);
            break;

        case RD_KAFKA_VTYPE_HEADERS:
            rd_kafka_headers_destroy(va_arg(args, rd_kafka_headers_t *));
            break;

        case RD_KAFKA_VTYPE_OPAQUE:
            m->e = va_arg(args, void *);
            break;

        default:
            (void) va_arg(args, void *);
            break;
        }
    }

    va_end(args);

    m->row = test_row_of_event(m->e);
    m->sent_ns = test.now_ns;
    m->due_ns = 0;

    assert_non_null(m->row);
    assert_int_equal(m->e->payment, test_hash(m->row->payment));

    assert_true(m->row->on_disk);

    for (i = 0; i < test.nmessages; i++) {
        assert_true(test.messages[i].row->payment != m->row->payment);

        /* a broker refuses a batch, and a batch is of one partition */

        if (test.messages[i].e->topic == m->e->topic
            && test.messages[i].e->lane == m->e->lane)
        {
            assert_false(m->e->alone || test.messages[i].e->alone);
        }
    }

    for (i = 0; i < test.nrows; i++) {
        if (test.rows[i].payment == m->row->payment
            && test.rows[i].version < m->row->version
            && !test.rows[i].published)
        {
            fail_msg("event %lu is sent before %lu", m->row->id,
                     test.rows[i].id);
        }
    }

    test.nmessages++;

    return RD_KAFKA_RESP_ERR_NO_ERROR;
}


static void
test_report(ngx_uint_t i, rd_kafka_resp_err_t err)
{
    test_message_t      *m;
    rd_kafka_message_t  *report;

    m = &test.messages[i];
    report = &test.reports[test.nreports++];

    report->_private = m->e;
    report->err = err;
    report->offset = m->row->skipped ? RD_KAFKA_OFFSET_INVALID : 0;

    m->row->published += (err == RD_KAFKA_RESP_ERR_NO_ERROR
                          && !m->row->skipped);
    m->row->skipped = 0;

    test.nmessages--;
    memmove(m, m + 1, (test.nmessages - i) * sizeof(test_message_t));
}


static const rd_kafka_message_t *
test_next_report(rd_kafka_event_t *event)
{
    return test.report < test.nreports ? &test.reports[test.report++] : NULL;
}


/* What is in a queue of the library's is with a broker at once. */

static rd_kafka_resp_err_t
test_purge(int flags)
{
    while ((flags & RD_KAFKA_PURGE_F_INFLIGHT) && test.nmessages) {
        test_report(0, RD_KAFKA_RESP_ERR__PURGE_INFLIGHT);
    }

    return RD_KAFKA_RESP_ERR_NO_ERROR;
}


/*
 * What is queued for a partition is one request.  When others have something
 * queued, too, partition 0 has no luck.
 */

static void
test_request(uint64_t *request)
{
    ngx_uint_t  i, partition;

    if (*request > test.now_ns) {
        return;
    }

    partition = 0;

    for (i = 0; i < test.nmessages; i++) {
        if (test.messages[i].due_ns == 0 && test.messages[i].row->partition) {
            partition = test.messages[i].row->partition;
            break;
        }
    }

    for (i = 0; i < test.nmessages; i++) {
        if (test.messages[i].due_ns == 0
            && test.messages[i].row->partition == partition)
        {
            *request = test.now_ns + test.far * UINT64_C(1000000);
            test.messages[i].due_ns = *request;
        }
    }
}


static ngx_uint_t
test_is_away(test_message_t *m)
{
    return test.far && (m->due_ns == 0 || m->due_ns > test.now_ns);
}


static void
test_answer(void)
{
    ngx_uint_t       i, took[TEST_PARTITIONS];
    test_message_t  *m;

    ngx_memzero(took, sizeof(took));

    for (i = 0; test.far && i < TEST_REQUESTS; i++) {
        test_request(&test.requests[i]);
    }

    for (i = 0; i < test.nmessages; /* void */ ) {
        m = &test.messages[i];

        if (test.now_ns - m->sent_ns >= 10 * UINT64_C(1000000000)) {
            m->row->lost = 0;
            test_report(i, RD_KAFKA_RESP_ERR__MSG_TIMED_OUT);

        } else if (m->row->lost || test_is_away(m)
                   || took[m->row->partition]++
                      >= test.takes[m->row->partition])
        {
            i++;

        } else {
            test_report(i, m->row->large ? RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE
                                         : RD_KAFKA_RESP_ERR_NO_ERROR);
        }
    }

    ngx_payment_producer_reports(&relays.producer, NULL);

    test.nreports = 0;
    test.report = 0;

    test_room(NULL);
}


static int32_t
test_partition(const rd_kafka_topic_t *rkt, const void *key, size_t len,
    int32_t partitions, void *topic, void *e)
{
    return *(const u_char *) key - '0';
}


static void
test_reported(void *data, payment_event_t *e, ngx_payment_verdict_e verdict,
    rd_kafka_resp_err_t err)
{
    ngx_payment_relay_report(&relay, e, verdict, err);
}


static void
test_abandoned(void *data)
{
    ngx_payment_relay_abandoned(&relay);
}


static void
test_room(void *data)
{
    ngx_payment_relay_pump(&relay);
}


static const ngx_payment_producer_handlers_t  test_handlers = {
    test_reported, test_abandoned, test_room
};


/* time */

static void
test_timer(ngx_event_t *ev)
{
    if (ev->timer_set
        && (ngx_msec_int_t) (ev->timer.key - ngx_current_msec) <= 0)
    {
        ev->timer_set = 0;
        ev->handler(ev);
    }
}


static void
test_posted(void)
{
    ngx_event_t  *ev;
    ngx_queue_t  *q;

    while (!ngx_queue_empty(&ngx_posted_events)) {
        q = ngx_queue_head(&ngx_posted_events);
        ev = ngx_queue_data(q, ngx_event_t, queue);

        ngx_delete_posted_event(ev);

        if (ev != &test_read_event) {
            ev->handler(ev);
        }
    }
}


/* Whoever kills the helper now reads there how many events may come again. */

static void
test_gauge(void)
{
    assert_int_equal(relay.sh.gauges->in_flight,
                     payment_inflight_count(&relay.sh.table,
                                            PAYMENT_EVENT_SENT));
}


static void
test_step(void)
{
    ngx_payment_breaker_presumed_t  presumed;

    test.now_ns += TEST_STEP * UINT64_C(1000000);
    ngx_current_msec = (ngx_msec_t) (test.now_ns / 1000000);

    test_answer();
    test_tell();
    test_hear(NULL);
    test_gauge();
    test_timer(&relay.reader.timer);
    test_timer(&relays.producer.timer);
    test_gauge();

    if (ngx_payment_producer_lanes_look(&relays.lanes, test.now_ns)) {
        ngx_payment_relay_excuse(&relay);
    }

    ngx_memzero(&presumed, sizeof(presumed));
    ngx_payment_breaker_count(&relays.breaker,
                              ngx_payment_producer_lanes_time(&relays.lanes,
                                                              test.now_ns),
                              &relay.sh.table, UINT64_MAX, &presumed);
    ngx_payment_breaker_presume(&relays.breaker, test.now_ns, &presumed);

    ngx_payment_relay_tick(&relay, test.now_ns);
    test_posted();
    test_fence();
    test_gauge();
}


static void
test_run(unsigned ms)
{
    unsigned  t;

    for (t = 0; t < ms; t += TEST_STEP) {
        test_step();
    }
}


/* what the tests say */

static test_row_t *
test_add(unsigned payment, unsigned version, unsigned partition)
{
    test_row_t  *row;
    char         id[NGX_PAYMENT_PROVED_ID_LEN] = "";

    assert_true(test.nrows < TEST_ROWS);

    row = &test.rows[test.nrows++];

    row->id = test.nrows;
    row->payment = payment;
    row->version = version;
    row->partition = partition;
    row->created_us = test.now_ns / 1000;
    row->there = 1;

    /* the others are another node's */

    if (test.alone || payment % 3) {
        row->untold = (version == 1);
        (void) sprintf(id, "%u", payment);
        ngx_payment_proved_add(&proved, ngx_payment_proved_word(
                                   (u_char *) id, version,
                                   relay.reader.db.choice));
        row->on_disk = 1;
    }

    return row;
}


/* messages of a partition that Kafka takes in a step */

static void
test_takes(unsigned partition, unsigned messages)
{
    test.takes[partition] = messages;
}


/* Some events come all the time: for partitions 2 and 3, and for 1 unless none
 * are to. */

static void
test_feed(unsigned ms)
{
    unsigned  t, partition;

    for (t = 0; t < ms; t += TEST_STEP) {

        partition = 1 + test.nrows % 3;

        if (partition == 1 && test.none_for_1) {
            partition = 2;
        }

        test_add(test.nrows, 1, partition);
        test_step();
    }
}


static ngx_uint_t
test_in_flight(test_row_t *row)
{
    ngx_uint_t  i;

    for (i = 0; i < test.nmessages && test.messages[i].row != row; i++) {
        /* void */
    }

    return i < test.nmessages;
}


/* A partition takes nothing any more, and that is known; the first event that
 * is in flight there. */

static test_row_t *
test_sicken(unsigned partition)
{
    unsigned     i;
    test_row_t  *first;

    test_feed(1000);
    test_takes(partition, 0);

    first = test_add(test.nrows, 1, partition);

    for (i = 0; i < 9; i++) {
        test_add(test.nrows, 1, partition);
    }

    test_feed(3000);

    assert_true(relays.lanes.topics[0].lanes[partition].stuck);
    assert_true(test_in_flight(first));

    return first;
}


/* The lease comes to another node, or from there. */

static void
test_lease(ngx_uint_t held)
{
    payment_lease_t  *lease;

    lease = &relay.sh.lease;

    if (held) {
        lease->state = PAYMENT_LEASE_HELD;
        lease->deadline = UINT64_MAX / 2;
        lease->epoch += 2;
        relay.sh.handlers->leased(relay.sh.data);

    } else {
        lease->state = PAYMENT_LEASE_FREE;
        relay.sh.handlers->unleased(relay.sh.data);
    }
}


/* of those that are not published */

static test_row_t *
test_oldest(ngx_uint_t aside)
{
    ngx_uint_t   i;
    test_row_t  *row;

    for (i = 0; i < test.nrows; i++) {
        row = &test.rows[i];

        if (row->there && row->published == 0
            && (!aside || payment_aside_has(&relay.sh.aside, row->id)))
        {
            return row;
        }
    }

    return NULL;
}


static void
test_all_published(void)
{
    ngx_uint_t   i;
    test_row_t  *row;

    for (i = 0; i < test.nrows; i++) {
        row = &test.rows[i];

        assert_false(row->there);
        assert_int_equal(row->published, !row->dead);
    }
}

static int
test_begin(void **state)
{
    payment_lease_conf_t  lease;

    static ngx_array_t           shards;
    static ngx_payment_shard_t  *elts[] = { &shard };

    ngx_memzero(&test, sizeof(test));
    ngx_memzero(&stats, sizeof(stats));
    ngx_memzero(&proved, sizeof(proved));
    ngx_memzero(&ring, sizeof(ring));
    ngx_memzero(&conf, sizeof(conf));
    ngx_memzero(&relay, sizeof(relay));
    ngx_memzero(&relays, sizeof(relays));

    test.now_ns = 3600 * UINT64_C(1000000000);
    ngx_current_msec = 3600 * 1000;
    test_log.log_level = NGX_LOG_NOTICE;

    ngx_queue_init(&ngx_posted_events);
    ngx_queue_init(&ngx_posted_next_events);

    shards.elts = elts;
    shards.nelts = 1;

    conf.shards = &shards;
    conf.stats = &stats;
    conf.proved = &proved;
    conf.news.ring = &ring;
    conf.poll_interval = 10;
    conf.batch_size = TEST_BATCH;
    conf.max_in_flight = TEST_IN_FLIGHT;
    conf.max_retries = 3;
    conf.retry_interval = 1000;
    conf.dead_letter = NGX_PAYMENT_DEAD_BLOCK;
    conf.lock_at_most_for = 30000;
    ngx_str_set(&conf.brokers, "localhost");
    ngx_str_set(&conf.topic, "t");
    payment_breaker_conf_default(&conf.breaker);

    relays.conf = &conf;
    relays.log = &test_log;
    relays.relays = &relay;
    relays.n = 1;
    relays.command.stats = &stats.helper;
    relays.hear = test_hear;

    lease.at_most_ms = conf.lock_at_most_for;
    lease.at_least_ms = 0;
    payment_lease_node_init(&relays.node.rules, &lease,
                            "00000000-0000-4000-8000-000000000001", 1);

    assert_int_equal(ngx_payment_breaker_init(&relays.breaker, &conf,
                                              &test_log), NGX_OK);
    assert_int_equal(ngx_payment_relay_init(&relay, &relays, &shard), NGX_OK);

    relay.sh.gauges = &stats.helper.lives[0].gauges[0];
    relay.sh.lease.node = &relays.node.rules;

    relays.producer.conf = &conf;
    relays.producer.brokers = stats.helper.lives[0].brokers;
    relays.producer.log = &test_log;
    relays.producer.lanes = &relays.lanes;
    relays.producer.handlers = &test_handlers;
    relays.producer.partitioner = test_partition;

    ngx_payment_producer_open(&relays.producer, PAYMENT_STOPWATCH_GAP_NS);
    ngx_payment_relay_open(&relay);

    relays.lanes.topics[0].partitions = TEST_PARTITIONS;

    test_takes(0, TEST_MESSAGES);
    test_takes(1, TEST_MESSAGES);
    test_takes(2, TEST_MESSAGES);
    test_takes(3, TEST_MESSAGES);

    test_lease(1);

    return 0;
}


static int
test_end(void **state)
{
    ngx_uint_t  i;

    ngx_payment_relay_close(&relay);

    while (ngx_payment_producer_close(&relays.producer, 0) != NGX_OK) {
        /* A thread ends the producer, by a clock that is not played. */
        (void) sched_yield();
    }

    for (i = 0; i < relays.lanes.ntopics; i++) {
        free(relays.lanes.topics[i].type.data);
    }

    for (i = 0; i < NGX_PAYMENT_READ_STMTS; i++) {
        free(relay.reader.sql[i]);
    }

    free(relay.reader.given);
    payment_inflight_destroy(&relay.sh.table);
    payment_aside_destroy(&relay.sh.aside);
    free(relays.breaker.memory);

    return 0;
}


static void
test_well(void **state)
{
    unsigned  i, version;

    for (version = 1; version <= 3; version++) {
        for (i = 0; i < 400; i++) {
            test_add(i, version, i % TEST_PARTITIONS);
        }
    }

    test_run(5000);
    test_all_published();
    assert_int_equal(stats.helper.outbox[0].failed, 0);
}


/*
 * A lane is stuck and well again, and the answers for some of its events never
 * come: nobody looks for what is set aside there because of these.
 */

static void
test_late_failures_of_a_lane_that_is_well(void **state)
{
    unsigned     i;
    test_row_t  *first;

    first = test_sicken(1);

    for (i = 0; i < test.nmessages; i++) {
        test.messages[i].row->lost = (test.messages[i].row->partition == 1
                                      && test.messages[i].row != first);
    }

    test_takes(1, TEST_MESSAGES);

    test_feed(30000);
    test_run(5000);
    test_all_published();
}


/* The first events wait for the connection, and twice as long as others before
 * that is called slow. */

static void
test_connecting(void **state)
{
    ngx_uint_t  i, turn;

    relays.breaker.on = 1;

    for (turn = 0; turn < 2; turn++) {

        test_takes(0, 0);

        for (i = 0; i < 10; i++) {
            test_add(test.nrows, 1, 0);
        }

        test_run(turn ? 1900 : 3900);
        assert_in_range(test.nmessages, 4, 10);
        assert_int_equal(relays.breaker.rules.state, PAYMENT_BREAKER_CLOSED);

        if (turn) {
            test_run(200);
            assert_int_equal(relays.breaker.rules.state, PAYMENT_BREAKER_OPEN);
            return;
        }

        test_takes(0, TEST_MESSAGES);
        test_run(1000);
        test_all_published();
        assert_int_equal(relays.breaker.rules.state, PAYMENT_BREAKER_CLOSED);
    }
}


static void
test_connecting_for_too_long(void **state)
{
    ngx_uint_t  i;

    relays.breaker.on = 1;

    test_takes(0, 0);
    test_takes(1, 0);

    for (i = 0; i < 10; i++) {
        test_add(test.nrows, 1, i % 2);
    }

    test_run(3900);
    assert_int_equal(relays.breaker.rules.state, PAYMENT_BREAKER_CLOSED);
    test_run(200);
    assert_int_equal(relays.breaker.rules.state, PAYMENT_BREAKER_OPEN);
}


/*
 * A Kafka that is far has no luck for one partition as long as there is more
 * and more for the others.
 */

static void
test_bad_luck(void **state)
{
    ngx_uint_t  i, t;

    test.far = TEST_FAR;
    relays.breaker.on = 1;

    for (t = 0; t < 30000; t += TEST_STEP) {

        for (i = 0; i < 4; i++) {
            test_add(test.nrows, 1, i);
        }

        test_step();

        for (i = 0; i < test.nmessages; i++) {
            assert_true(test.now_ns - test.messages[i].sent_ns
                        < 2 * UINT64_C(1000000000));
        }
    }

    assert_int_equal(relays.breaker.rules.state, PAYMENT_BREAKER_CLOSED);
    assert_int_equal(relays.lanes.stuck, 0);

    test_run(30000);
    test_all_published();
}


/*
 * The process did not run for a minute, and in the end Kafka takes nothing:
 * that is Kafka, and none of its partitions, whether the events before were
 * told of or read.
 */

static void
test_kafka_hangs_after_a_stop(void **state)
{
    ngx_uint_t  i, t;

    test.seed = 1;
    test.tells = 1;
    test.alone = 1;
    conf.poll_interval = 300;       /* answers are quicker than reads */
    relays.breaker.on = 1;

    test_feed(1000);
    test.now_ns += 60 * UINT64_C(1000000000);
    test_feed(1000);
    assert_true(test.early > 0);
    assert_int_equal(relays.breaker.rules.state, PAYMENT_BREAKER_CLOSED);

    for (i = 0; i < TEST_PARTITIONS; i++) {
        test_takes(i, 0);
    }

    for (t = 0; t < 3000; t += TEST_STEP) {
        test_feed(TEST_STEP);
        assert_int_equal(relays.lanes.stuck, 0);
    }

    assert_int_equal(relays.breaker.rules.state, PAYMENT_BREAKER_OPEN);
}


/* An answer that came while the process did not run says nothing of how far
 * Kafka is. */

static void
test_a_stop_is_no_measure(void **state)
{
    uint64_t    base;
    ngx_uint_t  i;

    test.far = TEST_FAR;
    test_feed(5000);
    base = relays.lanes.window.base_ns;
    assert_true(base >= TEST_FAR * UINT64_C(1000000));

    for (i = 0; i < 5; i++) {
        test.now_ns += 1000 * UINT64_C(1000000);
        test_feed(1000);
    }

    assert_in_range(relays.lanes.window.base_ns, base / 10 * 9, 2 * base);
}


/* It is not luck, but a partition that takes nothing: that is found as soon as
 * anywhere, and the others have waited for it once. */

static void
test_sick_lanes(unsigned sick, unsigned far)
{
    uint64_t     since_ns;
    ngx_uint_t   i, t, waited;
    test_row_t  *first;

    test.far = far;
    relays.breaker.on = 1;
    test_takes(0, 0);
    test_takes(sick - 1, 0);

    waited = 0;
    since_ns = 0;
    first = NULL;

    for (t = 0; t < 20000; t += TEST_STEP) {

        for (i = 0; i < 4; i++) {
            test_add(test.nrows, 1, i);
        }

        test_step();

        for (i = 0; i < test.nmessages && first == NULL; i++) {
            if (test.messages[i].row->partition == 0) {
                first = test.messages[i].row;
                since_ns = test.now_ns;
            }
        }

        waited += (relays.lanes.behind != 0);

        if (test.now_ns - since_ns >= 2100 * UINT64_C(1000000)) {
            assert_true(relays.lanes.topics[0].lanes[0].stuck);
            assert_int_equal(relays.lanes.behind, 0);
        }
    }

    assert_in_range(waited * TEST_STEP, 1, 1500);
    assert_int_equal(relays.breaker.rules.state, PAYMENT_BREAKER_CLOSED);
}


static void
test_sick_and_far(void **state)
{
    test_sick_lanes(1, TEST_FAR);
}


/* as many lanes as make a turn of their own long */

static void
test_two_sick_and_farther(void **state)
{
    test_sick_lanes(2, 640);
}


/*
 * More comes for a partition than it takes, all the time.  What is passed by
 * and set aside is read again: so the oldest event is another one before long.
 */

static void
test_steady_surplus(void **state)
{
    unsigned     i, t;
    uint64_t     since_ns;
    test_row_t  *row, *oldest;

    test_takes(0, 2);

    oldest = NULL;
    since_ns = test.now_ns;

    for (t = 0; t < 60000; t += TEST_STEP) {

        for (i = 0; i < (t % 100 ? 2 : 4); i++) {
            test_add(test.nrows, 1, 0);
        }

        test_step();

        row = test_oldest(0);

        if (row != oldest) {
            oldest = row;
            since_ns = test.now_ns;
        }

        assert_true(test.now_ns - since_ns < 12 * UINT64_C(1000000000));
    }

    assert_true(relay.sh.aside.n > 0);

    test_takes(0, TEST_MESSAGES);
    test_run(30000);
    test_all_published();
}


/*
 * The lease was with another node, and an id means another row since, when it
 * is heard what became of the event that was in flight in a lane that is stuck.
 */

static void
test_doubted(ngx_uint_t lost)
{
    test_row_t  *row, *other;

    row = test_sicken(1);

    test_lease(0);
    test_run(100);
    assert_int_equal(relay.sh.state, NGX_PAYMENT_RELAY_STOPPED);
    assert_true(test_in_flight(row));

    row->there = 0;
    row->lost = lost;

    other = test_add(test.nrows, 1, 2);
    other->id = row->id;

    test_lease(1);

    if (!lost) {
        test_takes(1, TEST_MESSAGES);
    }

    test_run(10000);
    assert_false(test_in_flight(row));

    /* in the life of the table that the lease's other holder saw */

    row->published = 1;

    test_takes(1, TEST_MESSAGES);
    test_run(20000);
    test_all_published();
}


static void
test_late_answer_after_a_doubt(void **state)
{
    test_doubted(0);
}


static void
test_late_failure_after_a_doubt(void **state)
{
    test_doubted(1);
}


/* All events that keep the places of a stuck lane become dead letters: those
 * that are set aside have their turn. */

static void
test_the_last_of_a_lane_dies(void **state)
{
    unsigned  i, dead;

    test.none_for_1 = 1;
    test_feed(1000);
    test_takes(1, 0);

    for (i = 0; i < 4; i++) {
        test_add(test.nrows, 1, 1)->large = 1;
    }

    /* they time out, and wait for their next try */

    test_feed(10500);
    assert_true(relays.lanes.topics[0].lanes[1].stuck);
    assert_int_equal(relay.scouts[0][1], 4);

    for (i = 0; i < 20; i++) {
        test_add(test.nrows, 1, 1);
    }

    test_feed(100);
    assert_int_equal(relay.sh.aside.n, 20);

    test_takes(1, TEST_MESSAGES);
    test_feed(30000);

    for (i = 0, dead = 0; i < test.nrows; i++) {
        dead += test.rows[i].dead;
    }

    assert_int_equal(dead, 4);
    test_run(5000);
    test_all_published();
}


/* What a stuck lane has in flight is given up: nobody else begins anew. */

static void
test_giving_up_a_stuck_lane(void **state)
{
    ngx_uint_t  rewinds;

    (void) test_sicken(1);

    rewinds = stats.helper.outbox[0].rewinds;
    assert_true(relays.lanes.stuck >= 10);
    test_run(100);
    assert_int_equal(test.nmessages, relays.lanes.stuck);

    ngx_payment_producer_abort(&relays.producer, 100);
    test_run(1000);

    assert_int_equal(relays.producer.state, NGX_PAYMENT_PRODUCER_UP);
    assert_int_equal(stats.helper.outbox[0].rewinds, rewinds);

    test_takes(1, TEST_MESSAGES);
    test_run(5000);
    test_all_published();
}


/* A dead letter of a lane that is well lets those aside wait elsewhere. */

static void
test_dead_letter_of_a_lane_that_is_well(void **state)
{
    ngx_uint_t  rewinds;

    (void) test_sicken(1);
    test_feed(15000);
    assert_true(relay.sh.aside.n > 0);

    rewinds = stats.helper.outbox[0].rewinds;
    test_add(test.nrows, 1, 2)->large = 1;
    test_feed(5000);
    assert_int_equal(stats.helper.outbox[0].dead, 1);
    assert_int_equal(stats.helper.outbox[0].rewinds, rewinds);

    test_takes(1, TEST_MESSAGES);
    test_feed(15000);
    test_run(5000);
    test_all_published();
}


/* The gauge of the oldest event counts what is set aside. */

static void
test_age(void **state)
{
    unsigned     i, aside;
    uint64_t     oldest;
    test_row_t  *row;

    (void) test_sicken(1);
    test_feed(5000);
    test_takes(2, 0);

    aside = 0;

    for (i = 0; i < 1500; i++) {
        test_feed(TEST_STEP);

        if (relay.sh.state != NGX_PAYMENT_RELAY_RUNNING
            || relay.sh.aside.n == 0)
        {
            continue;
        }

        aside++;
        row = test_oldest(1);
        oldest = relay.sh.gauges->oldest_us;
        assert_true(oldest && oldest <= row->created_us);
    }

    assert_true(aside > 1000);
}


/* Some events of a payment with many changes are always aside, but of another
 * payment each few seconds. */

static void
test_age_of_what_comes_and_goes(void **state)
{
    unsigned     step, version;
    uint64_t     oldest;
    test_row_t  *row;

    for (step = 0; step < 2500; step++) {

        if (step % 150 == 0) {
            for (version = 1; version <= 220; version++) {
                test_add(step, version, 0);
            }
        }

        test_step();

        row = test_oldest(0);
        oldest = relay.sh.gauges->oldest_us;
        assert_true(step < 100 || relay.sh.aside.n);
        assert_true(row == NULL || oldest >= row->created_us - 5000000);
    }

    test_run(20000);
    test_all_published();
}


/* That nothing more can be set aside is said once a minute. */

static void
test_crowd(void **state)
{
    unsigned  i;

    relay.sh.aside.capacity = 20;
    (void) test_sicken(1);

    for (i = 0; i < 200; i++) {
        test_add(test.nrows, 1, 1);
    }

    test_feed(30000);
    assert_int_equal(test.warnings, 1);
    test_feed(40000);
    assert_int_equal(test.warnings, 2);

    test_takes(1, TEST_MESSAGES);
    test_run(60000);
    test_all_published();
}


/* Two payments' events are refused, which may be the topic's fault: they wait
 * until it takes another one.  What waits behind them must not keep that one
 * from being read. */

static void
test_many_behind_what_is_refused(void **state)
{
    unsigned  i, payment;

    for (payment = 1; payment <= 2; payment++) {
        test_add(payment, 1, 0)->large = 1;

        for (i = 0; i < NGX_PAYMENT_OUTBOX_BEHIND; i++) {
            test_add(payment, 2 + i, 0);
        }
    }

    test_run(5000);
    test_add(3, 1, 0);
    test_run(20000);
    test_all_published();
}


/* An event of one of some payments, in whose transaction it may stay for a
 * while; a payment's next one comes afterwards. */

static void
test_change(void)
{
    unsigned      payment;
    test_row_t   *row, **latest;

    /* one of them has many changes */

    payment = test_number(8) ? test_number(test.tells ? TEST_PAYMENTS
                                                      : TEST_FEW) : 0;
    latest = &test.latest[payment];
    row = *latest;

    if (row && row->hidden) {
        row->hidden = 0;
        return;
    }

    row = test_add(payment, row ? row->version + 1 : 1,
                   payment % TEST_PARTITIONS);
    row->hidden = (test_number(50) == 0);
    row->large = (test_number(500) == 0);
    row->lost = (test_number(1000) == 0);
    row->skipped = (test_number(1000) == 0);

    *latest = row;
}


static void
test_anything(uint64_t seed)
{
    unsigned    i, n, step;

    test.seed = seed;
    test.tells = seed % 2;
    test.alone = test.tells;

    for (step = 0; step < 2500; step++) {

        for (i = test_number(4); i; i--) {
            test_change();
        }

        if (test_number(200) == 0) {
            n = test_number(4);
            test_takes(test_number(TEST_PARTITIONS),
                       n == 0 ? 0 : n == 1 ? 1 : TEST_MESSAGES);
        }

        if (test_number(500) == 0) {
            test_lease(relay.sh.lease.state != PAYMENT_LEASE_HELD);
        }

        if (test_number(1000) == 0) {
            ngx_payment_producer_abort(&relays.producer, 100);
        }

        test_step();
    }

    for (i = 0; i < TEST_PARTITIONS; i++) {
        test_takes(i, TEST_MESSAGES);
    }

    for (i = 0; i < test.nrows; i++) {
        test.rows[i].hidden = 0;
        test.rows[i].lost = 0;
    }

    if (relay.sh.lease.state != PAYMENT_LEASE_HELD) {
        test_lease(1);
    }

    /* what a topic refuses is not blamed before it takes another event */

    for (i = 0; i < 20; i++) {
        test_add(test.nrows, 1, 0);
        test_run(2000);
    }

    test_all_published();
}


/* One line a second at first, and one a minute after some minutes; each other
 * is counted.  After a silence the next storm is a new one. */

static void
test_a_storm_that_lasts(void **state)
{
    ngx_uint_t           i, lines, seconds, told;
    const char          *note;
    ngx_payment_storm_t  storm;

    ngx_memzero(&storm, sizeof(storm));
    told = 0;

    for (seconds = 0, lines = 0; seconds < 3600; seconds++) {
        for (i = 0; i < 10; i++) {
            note = ngx_payment_storm_note(&storm, 1142);

            if (note) {
                lines++;
                told += 1 + (*note ? strtoul(note + 6, NULL, 10) : 0);
            }

            ngx_current_msec += 100;
        }

        assert_true(seconds >= 4 || lines == (seconds >= 3 ? 3
                                              : seconds >= 1 ? 2 : 1));
    }

    assert_in_range(lines, 60, 70);
    assert_in_range(told, 36000 - 600, 36000);

    ngx_current_msec += 120 * 1000;

    assert_non_null(ngx_payment_storm_note(&storm, 1142));
    assert_null(ngx_payment_storm_note(&storm, 1142));

    ngx_current_msec += 1000;

    assert_string_equal(ngx_payment_storm_note(&storm, 1142),
                        " (and 1 more like it before)");
}


/* Each try of a client that waits for longer than a second between two fails:
 * that is one storm as well. */

static void
test_a_storm_of_slow_tries(void **state)
{
    ngx_uint_t           i, lines;
    ngx_payment_storm_t  storm;

    ngx_memzero(&storm, sizeof(storm));

    for (i = 0, lines = 0; i < 240; i++) {
        lines += ngx_payment_storm_note(&storm, 1142) != NULL;
        ngx_current_msec += 2500;
    }

    /* at 0, 2.5, 5, 10, 20, 37.5 s, ..., and then each minute */
    assert_in_range(lines, 12, 18);

    ngx_current_msec += NGX_PAYMENT_STORM_PAUSE_MAX * 2;
    assert_non_null(ngx_payment_storm_note(&storm, 1142));
}


/* A partition that comes and goes is told of ever more rarely; but when it is
 * gone for good, that is told within two minutes, and once. */

static void
test_a_lane_that_flaps(void **state)
{
    ngx_uint_t                     i;
    ngx_payment_producer_topic_t  *t;

    t = &relays.lanes.topics[0];

    for (i = 0; i < 12; i++) {
        ngx_payment_producer_topic_stuck(t, 1, &test_log);
        ngx_current_msec += 5000;
        assert_int_equal(ngx_payment_producer_topic_unstuck(t, 1, &test_log),
                         NGX_OK);
        ngx_current_msec += 5000;
    }

    assert_in_range(test.refusals, 5, 8);
    test.refusals = 0;

    ngx_payment_producer_topic_stuck(t, 1, &test_log);

    for (i = 0; i < 240; i++) {
        ngx_current_msec += 1000;
        (void) ngx_payment_producer_topic_scout(t, 1, i * UINT64_C(1000000000),
                                                1000, &test_log);
        assert_true(i < 120 || test.refusals == 1);
    }

    assert_true(t->lanes[1].told);
    t->lanes[1].stuck = 0;
}


/* The same of a topic that refuses the events of several payments. */

static void
test_a_topic_that_flaps(void **state)
{
    ngx_uint_t                     i;
    ngx_payment_producer_topic_t  *t;

    t = &relays.lanes.topics[0];

    for (i = 0; i < 240; i++) {
        ngx_payment_producer_topic_doubt(t, 1, 87, &test_log);
        ngx_payment_producer_topic_doubt(t, 2, 87, &test_log);
        assert_int_equal(t->state, NGX_PAYMENT_TOPIC_DOUBTED);
        ngx_current_msec += 5000;

        if (i < 12) {
            (void) ngx_payment_producer_topic_delivered(t, &test_log);
            ngx_current_msec += 5000;

        } else if (i == 12) {
            assert_in_range(test.refusals, 5, 8);
            test.refusals = 0;
        }

        assert_true(i < 12 + 24 || test.refusals == 1);
    }

    (void) ngx_payment_producer_topic_delivered(t, &test_log);
    test.refusals = 0;

    /* when several do so at once, each is told of */
    for (i = 0; i < 2; i++) {
        ngx_payment_producer_topic_doubt(t + i, 1, 87, &test_log);
        ngx_payment_producer_topic_doubt(t + i, 2, 87, &test_log);
        assert_int_equal(test.refusals, i + 1);
        (void) ngx_payment_producer_topic_delivered(t + i, &test_log);
    }
}


/* Whatever happens, in whatever order. */

static void
test_random(void **state)
{
    char        *text;
    uint64_t     seed, last;
    ngx_uint_t   early;

    early = 0;
    text = getenv("RELAY_SEED");
    seed = text ? strtoull(text, NULL, 10) : 1;
    last = text ? seed : TEST_SEEDS;

    for ( ;; ) {
        print_message("RELAY_SEED=%lu\n", seed);
        test_anything(seed);
        early += test.early;

        if (seed++ == last) {
            break;
        }

        (void) test_end(state);
        (void) test_begin(state);
    }

    assert_true(text || early > 200);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_well, test_begin, test_end),
        cmocka_unit_test_setup_teardown(
            test_late_failures_of_a_lane_that_is_well, test_begin, test_end),
        cmocka_unit_test_setup_teardown(test_connecting, test_begin, test_end),
        cmocka_unit_test_setup_teardown(test_connecting_for_too_long,
                                        test_begin, test_end),
        cmocka_unit_test_setup_teardown(test_kafka_hangs_after_a_stop,
                                        test_begin, test_end),
        cmocka_unit_test_setup_teardown(test_a_stop_is_no_measure,
                                        test_begin, test_end),
        cmocka_unit_test_setup_teardown(test_bad_luck, test_begin, test_end),
        cmocka_unit_test_setup_teardown(test_sick_and_far, test_begin,
                                        test_end),
        cmocka_unit_test_setup_teardown(test_two_sick_and_farther, test_begin,
                                        test_end),
        cmocka_unit_test_setup_teardown(test_steady_surplus, test_begin,
                                        test_end),
        cmocka_unit_test_setup_teardown(test_late_answer_after_a_doubt,
                                        test_begin, test_end),
        cmocka_unit_test_setup_teardown(test_late_failure_after_a_doubt,
                                        test_begin, test_end),
        cmocka_unit_test_setup_teardown(test_the_last_of_a_lane_dies,
                                        test_begin, test_end),
        cmocka_unit_test_setup_teardown(test_giving_up_a_stuck_lane,
                                        test_begin, test_end),
        cmocka_unit_test_setup_teardown(
            test_dead_letter_of_a_lane_that_is_well, test_begin, test_end),
        cmocka_unit_test_setup_teardown(test_age, test_begin, test_end),
        cmocka_unit_test_setup_teardown(test_age_of_what_comes_and_goes,
                                        test_begin, test_end),
        cmocka_unit_test_setup_teardown(test_crowd, test_begin, test_end),
        cmocka_unit_test_setup_teardown(test_many_behind_what_is_refused,
                                        test_begin, test_end),
        cmocka_unit_test(test_a_storm_that_lasts),
        cmocka_unit_test(test_a_storm_of_slow_tries),
        cmocka_unit_test_setup_teardown(test_a_lane_that_flaps, test_begin,
                                        test_end),
        cmocka_unit_test_setup_teardown(test_a_topic_that_flaps, test_begin,
                                        test_end),
        cmocka_unit_test_setup_teardown(test_random, test_begin, test_end)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
