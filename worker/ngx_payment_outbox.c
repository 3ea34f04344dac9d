/*
 * The outbox as a guest on nginx's event loop: how it begins, its pulse, and
 * how it ends.
 *
 * There are two hosts.  One is the helper process: because the module has a
 * path, the master starts nginx's cache manager, which calls
 * ngx_payment_outbox_manager(); that process ends by exit(), so the drain is an
 * atexit() handler.  The other is the single process, when master_process is
 * off: the module's init_process and exit_process hooks call start and drain.
 *
 * Owner: one of these processes, recognised by its pid.
 * Limits: one outbox a process; a tick each poll interval; the drain ends
 * after payment_outbox_drain_timeout, or about 1 s when the master kills.
 */

#include "ngx_payment_clock.h"
#include "ngx_payment_eventfd.h"
#include "ngx_payment_exporter.h"
#include "ngx_payment_operator.h"
#include "ngx_payment_outbox.h"
#include "ngx_payment_relay.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/random.h>


#define NGX_PAYMENT_OUTBOX_MANAGER_DELAY  (3600 * 1000)  /* ms: own timers */
#define NGX_PAYMENT_OUTBOX_TICK_MAX       100            /* ms */
#define NGX_PAYMENT_OUTBOX_DRAIN_TICK     10             /* ms */
#define NGX_PAYMENT_OUTBOX_REPORT_PATIENCE  5000         /* ms */
#define NGX_PAYMENT_OUTBOX_OVERDUE_TICKS  20
#define NGX_PAYMENT_OUTBOX_VAIN           2000           /* ms */
#define NGX_PAYMENT_OUTBOX_TERMINATE_DRAIN  1000         /* ms */
#define NGX_PAYMENT_OUTBOX_CLOSE_MIN      100            /* ms */

#define NGX_PAYMENT_OUTBOX_CRASH_PERIOD   30000          /* ms */
#define NGX_PAYMENT_OUTBOX_CRASHES_FREE   2
#define NGX_PAYMENT_OUTBOX_CRASH_DELAY    250            /* ms, doubled each */


typedef enum {
    NGX_PAYMENT_OUTBOX_WAITING = 0,  /* for initial_delay, or after crashes */
    NGX_PAYMENT_OUTBOX_RUNNING,
    NGX_PAYMENT_OUTBOX_DRAINING,
    NGX_PAYMENT_OUTBOX_ENDED
} ngx_payment_outbox_state_e;


typedef struct {
    ngx_payment_outbox_state_e   state;
    ngx_payment_outbox_conf_t   *conf;
    ngx_payment_stats_t         *stats;
    ngx_cycle_t                 *cycle;
    ngx_log_t                   *log;

    ngx_payment_relays_t         relays;
    ngx_payment_exporter_t      *exporter;        /* NULL: of no traces */

    ngx_uint_t                   overdue;         /* ticks without reports */
    ngx_uint_t                   life;            /* index of stats' lives */
    ngx_event_t                  tick;
    ngx_event_t                  start;           /* after the delays */
    ngx_event_t                  news;            /* the end of a pause */
    payment_pace_t               pace;            /* of hearing them */
    ngx_uint_t                   heard;           /* since it began */
    ngx_msec_t                   pause;           /* the latest one; 0: none */
    ngx_uint_t                   waits;           /* for the end of a read */
} ngx_payment_outbox_t;


static ngx_int_t ngx_payment_outbox_begin(ngx_payment_outbox_conf_t *conf,
    ngx_cycle_t *cycle);
static ngx_msec_t ngx_payment_outbox_enter(ngx_payment_outbox_t *o);
static ngx_int_t ngx_payment_outbox_identity(ngx_payment_outbox_t *o);
static void ngx_payment_outbox_run(ngx_event_t *ev);
static ngx_int_t ngx_payment_outbox_init_relays(ngx_payment_outbox_t *o);
static void ngx_payment_outbox_ring(ngx_event_t *ev);
static void ngx_payment_outbox_hear_at_read(void *data);
static void ngx_payment_outbox_hear(ngx_payment_outbox_t *o);
static void ngx_payment_outbox_news(ngx_event_t *ev);
static void ngx_payment_outbox_listen(ngx_payment_outbox_t *o);
static void ngx_payment_outbox_hear_one(ngx_payment_outbox_t *o,
    const ngx_payment_news_item_t *item);
static void ngx_payment_outbox_pause(ngx_payment_outbox_t *o,
    uint64_t began_ns);
static void ngx_payment_outbox_read_missed(ngx_payment_outbox_t *o);
static ngx_uint_t ngx_payment_outbox_has_missed(ngx_payment_outbox_t *o,
    ngx_payment_relay_t *r);
static ngx_uint_t ngx_payment_outbox_reads(ngx_payment_outbox_t *o,
    uint64_t now_ns);
static void ngx_payment_outbox_tick(ngx_event_t *ev);
static void ngx_payment_outbox_watch(ngx_payment_outbox_t *o, uint64_t now_ns);

static void ngx_payment_outbox_presume(ngx_payment_outbox_t *o,
    uint64_t now_ns);
static void ngx_payment_outbox_breaker_act(ngx_payment_outbox_t *o);

static void ngx_payment_outbox_report(void *data, payment_event_t *e,
    ngx_payment_verdict_e verdict, rd_kafka_resp_err_t err);
static void ngx_payment_outbox_abandoned(void *data);
static void ngx_payment_outbox_room(void *data);

static void ngx_payment_outbox_exit(void);
static void ngx_payment_outbox_end(ngx_payment_outbox_t *o);
static uint64_t ngx_payment_outbox_await(ngx_payment_outbox_t *o);
static ngx_msec_t ngx_payment_outbox_drain_time(ngx_payment_outbox_t *o);
static ngx_uint_t ngx_payment_outbox_drained(ngx_payment_outbox_t *o);


/* The outbox belongs to the process with this pid, not to a child that it
 * forks. */
static ngx_payment_outbox_t  *ngx_payment_outbox;
static ngx_pid_t              ngx_payment_outbox_pid;


static const ngx_payment_producer_handlers_t  ngx_payment_outbox_handlers = {
    ngx_payment_outbox_report,
    ngx_payment_outbox_abandoned,
    ngx_payment_outbox_room
};


/* beginning */

ngx_msec_t
ngx_payment_outbox_manager(void *data)
{
    ngx_payment_outbox_conf_t *conf = data;

    ngx_cycle_t  *cycle;

    /* The cache loader calls this, too, and a failed start is not repeated. */

    if (ngx_payment_outbox_pid == ngx_pid) {
        return NGX_PAYMENT_OUTBOX_MANAGER_DELAY;
    }

    ngx_payment_outbox_pid = ngx_pid;
    cycle = (ngx_cycle_t *) ngx_cycle;

    ngx_setproctitle("payment outbox");

    /* This comes after the change of the user, which would clear it. */

    if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) == -1) {
        ngx_log_error(NGX_LOG_ALERT, cycle->log, ngx_errno,
                      "prctl(PR_SET_PDEATHSIG) failed");
    }

    if (getppid() != ngx_parent) {
        /* The master died before its death could be signalled. */
        ngx_terminate = 1;
        return NGX_PAYMENT_OUTBOX_MANAGER_DELAY;
    }

    if (ngx_payment_db_init_process(cycle) != NGX_OK
        || ngx_payment_outbox_begin(conf, cycle) != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ALERT, cycle->log, 0,
                      "payment outbox: could not start; events wait in the "
                      "database until a reload");
        return NGX_PAYMENT_OUTBOX_MANAGER_DELAY;
    }

    if (atexit(ngx_payment_outbox_exit) != 0) {
        ngx_log_error(NGX_LOG_ALERT, cycle->log, 0,
                      "payment outbox: atexit() failed, leases won't be "
                      "given back");
    }

    return NGX_PAYMENT_OUTBOX_MANAGER_DELAY;
}


ngx_int_t
ngx_payment_outbox_start(ngx_payment_outbox_conf_t *conf, ngx_cycle_t *cycle)
{
    ngx_payment_outbox_pid = ngx_pid;

    return ngx_payment_outbox_begin(conf, cycle);
}


static ngx_int_t
ngx_payment_outbox_begin(ngx_payment_outbox_conf_t *conf, ngx_cycle_t *cycle)
{
    ngx_msec_t             delay;
    ngx_payment_outbox_t  *o;

    o = ngx_calloc(sizeof(ngx_payment_outbox_t), cycle->log);
    if (o == NULL) {
        return NGX_ERROR;
    }

    o->conf = conf;
    o->stats = conf->stats;
    o->cycle = cycle;
    o->log = cycle->log;
    o->relays.conf = conf;
    o->relays.log = o->log;
    o->relays.command.stats = &o->stats->helper;

    if (ngx_payment_outbox_identity(o) != NGX_OK
        || ngx_payment_breaker_init(&o->relays.breaker, conf, o->log) != NGX_OK
        || ngx_payment_outbox_init_relays(o) != NGX_OK
        || ngx_payment_eventfd_watch(conf->doorbell, ngx_payment_outbox_ring,
                                     o, o->log)
           == NULL)
    {
        return NGX_ERROR;
    }

    o->relays.producer.conf = conf;
    o->relays.producer.log = o->log;
    o->relays.producer.lanes = &o->relays.lanes;
    o->relays.producer.handlers = &ngx_payment_outbox_handlers;
    o->relays.producer.data = o;

    if (conf->spans) {
        o->exporter = ngx_payment_exporter_create(conf, o->relays.node.host,
                                                  o->log);
        o->relays.producer.spans = ngx_payment_producer_spans_create(
                                                        conf->spans, o->log);

        if (o->exporter == NULL || o->relays.producer.spans == NULL) {
            return NGX_ERROR;
        }
    }

    o->tick.handler = ngx_payment_outbox_tick;
    o->tick.data = o;
    o->tick.log = o->log;
    o->tick.cancelable = 1;

    o->relays.hear = ngx_payment_outbox_hear_at_read;
    o->relays.data = o;

    o->news.handler = ngx_payment_outbox_news;
    o->news.data = o;
    o->news.log = o->log;
    o->news.cancelable = 1;

    payment_pace_init(&o->pace, conf->max_delay * 1000000ULL);

    o->start.handler = ngx_payment_outbox_run;
    o->start.data = o;
    o->start.log = o->log;
    o->start.cancelable = 1;

    delay = ngx_payment_outbox_enter(o);
    ngx_add_timer(&o->start, delay);

    ngx_payment_outbox = o;

    return NGX_OK;
}


/*
 * Puts this life of the helper into shared memory, and looks at the lives
 * before it: their leases can be taken at once when their processes are gone,
 * and many short lives are crashes.  The master starts a dead helper again at
 * once, however often, so the helper itself waits before it begins.
 */

static ngx_msec_t
ngx_payment_outbox_enter(ngx_payment_outbox_t *o)
{
    u_char                      *p;
    uint64_t                     now;
    ngx_uint_t                   i, crashes, starts;
    ngx_msec_t                   delay;
    ngx_payment_life_t          *life;
    ngx_payment_helper_stats_t  *helper;

    helper = &o->stats->helper;
    now = ngx_payment_unix_us() / 1000;
    p = o->relays.node.predecessors;
    crashes = 0;

    for (i = 0; i < NGX_PAYMENT_LIVES; i++) {
        life = &helper->lives[i];

        if (life->pid == 0
            || kill((pid_t) life->pid, 0) == 0 || ngx_errno != NGX_ESRCH)
        {
            continue;
        }

        /* its number can be another process's one day, its gauges cannot */

        life->kafka_up = 0;
        ngx_memzero(life->gauges, sizeof(life->gauges));

        life->owner[NGX_PAYMENT_OWNER_LEN - 1] = '\0';
        p = ngx_sprintf(p, ",'%s'", life->owner);

        if (now - life->started_at < NGX_PAYMENT_OUTBOX_CRASH_PERIOD) {
            crashes++;
        }
    }

    *p = '\0';

    /* what has started shows a breaker, and never the zeros of a new zone */

    if (helper->starts == 0) {
        ngx_payment_breaker_show(&o->relays.breaker, ngx_payment_clock_ns());
    }

    starts = ngx_atomic_fetch_add(&helper->starts, 1);
    o->life = starts % NGX_PAYMENT_LIVES;

    life = &helper->lives[o->life];
    life->pid = 0;
    (void) ngx_cpystrn(life->owner, (u_char *) o->relays.node.rules.uuid,
                       NGX_PAYMENT_OWNER_LEN);
    life->started_at = now;
    life->kafka_up = 0;
    ngx_memzero(life->gauges, sizeof(life->gauges));
    ngx_memzero(life->brokers, sizeof(life->brokers));
    life->pid = ngx_pid;

    o->relays.producer.brokers = life->brokers;

    for (i = 0; i < o->relays.n; i++) {
        o->relays.relays[i].sh.gauges =
                         &life->gauges[o->relays.relays[i].sh.shard->index];
    }

    (void) ngx_cpystrn(helper->owner, (u_char *) o->relays.node.rules.uuid,
                       NGX_PAYMENT_OWNER_LEN);
    helper->started_at = now;
    helper->pid = ngx_pid;

    /* The first helper of this nginx gives its servers time to come up. */

    delay = (starts == 0) ? o->conf->initial_delay : 0;

    if (crashes > NGX_PAYMENT_OUTBOX_CRASHES_FREE) {
        delay = NGX_PAYMENT_OUTBOX_CRASH_DELAY
                << (crashes - NGX_PAYMENT_OUTBOX_CRASHES_FREE - 1);

        ngx_log_error(NGX_LOG_WARN, o->log, 0,
                      "payment outbox: %ui helpers died within %d s, starting "
                      "in %M ms", crashes,
                      NGX_PAYMENT_OUTBOX_CRASH_PERIOD / 1000, delay);
    }

    return delay;
}


/* A uuid for this life, and the host's name as SQL may hold it. */

static ngx_int_t
ngx_payment_outbox_identity(ngx_payment_outbox_t *o)
{
    char                 *p, uuid[PAYMENT_LEASE_UUID_LEN + 1];
    u_char                random[16 + sizeof(uint64_t)], hex[32];
    uint64_t              seed;
    ngx_payment_node_t   *node;
    payment_lease_conf_t  conf;

    node = &o->relays.node;

    if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
        ngx_log_error(NGX_LOG_ALERT, o->log, ngx_errno,
                      "payment outbox: getrandom() failed");
        return NGX_ERROR;
    }

    random[6] = (random[6] & 0x0f) | 0x40;
    random[8] = (random[8] & 0x3f) | 0x80;

    (void) ngx_hex_dump(hex, random, 16);
    (void) ngx_sprintf((u_char *) uuid, "%*s-%*s-%*s-%*s-%*s%Z",
                       (size_t) 8, hex, (size_t) 4, hex + 8,
                       (size_t) 4, hex + 12, (size_t) 4, hex + 16,
                       (size_t) 12, hex + 20);

    if (gethostname(node->host, sizeof(node->host)) == -1) {
        node->host[0] = '\0';
    }

    node->host[sizeof(node->host) - 1] = '\0';

    for (p = node->host; *p; p++) {
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z')
              || (*p >= '0' && *p <= '9') || *p == '.' || *p == '-'))
        {
            *p = '_';
        }
    }

    node->predecessors = ngx_calloc(NGX_PAYMENT_LIVES
                                    * (NGX_PAYMENT_OWNER_LEN + 3) + 1, o->log);
    if (node->predecessors == NULL) {
        return NGX_ERROR;
    }

    conf.at_most_ms = o->conf->lock_at_most_for;
    conf.at_least_ms = o->conf->lock_at_least_for;

    ngx_memcpy(&seed, random + 16, sizeof(uint64_t));
    payment_lease_node_init(&node->rules, &conf, uuid, seed);

    return NGX_OK;
}


static ngx_int_t
ngx_payment_outbox_init_relays(ngx_payment_outbox_t *o)
{
    ngx_uint_t             i;
    ngx_payment_shard_t  **shards;
    ngx_payment_relays_t  *all;

    all = &o->relays;
    shards = o->conf->shards->elts;

    all->n = o->conf->shards->nelts;
    all->relays = ngx_calloc(all->n * sizeof(ngx_payment_relay_t), o->log);

    if (all->relays == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < all->n; i++) {
        if (ngx_payment_relay_init(&all->relays[i], all, shards[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static void
ngx_payment_outbox_run(ngx_event_t *ev)
{
    uint64_t               gap;
    ngx_uint_t             i;
    ngx_core_conf_t       *ccf;
    ngx_payment_outbox_t  *o;

    o = ev->data;
    o->state = NGX_PAYMENT_OUTBOX_RUNNING;
    o->stats->command_armed = 1;

    ngx_log_error(NGX_LOG_NOTICE, o->log, 0,
                  "payment outbox: started, %ui shard(s), owner %s",
                  o->relays.n, o->relays.node.rules.uuid);

    /* ticks are no closer together than nginx has been told to look for them */

    ccf = (ngx_core_conf_t *) ngx_get_conf(o->cycle->conf_ctx, ngx_core_module);
    gap = ngx_max(PAYMENT_STOPWATCH_GAP_NS,
                  2 * ccf->timer_resolution * 1000000ULL);

    ngx_payment_producer_open(&o->relays.producer, gap);

    for (i = 0; i < o->relays.n; i++) {
        ngx_payment_relay_open(&o->relays.relays[i]);
    }

    ngx_add_timer(&o->tick, 1);
}


/* the pulse */

static void
ngx_payment_outbox_ring(ngx_event_t *ev)
{
    ngx_uint_t             i;
    ngx_payment_relay_t   *r;
    ngx_payment_outbox_t  *o;

    o = ngx_payment_eventfd_read(ev);

    if (o->state == NGX_PAYMENT_OUTBOX_WAITING) {
        return;
    }

    /* whoever rang has disarmed what it rang for */

    if (o->stats->command_armed == 0) {
        o->stats->command_armed = 1;

        if (o->state == NGX_PAYMENT_OUTBOX_RUNNING) {
            ngx_payment_operator_run(&o->relays);
            ngx_payment_breaker_show(&o->relays.breaker,
                                     ngx_payment_clock_ns());
        }
    }

    for (i = 0; i < o->relays.n; i++) {
        r = &o->relays.relays[i];

        if (o->stats->doorbell_armed[r->sh.shard->index] == 0
            && !o->conf->news.ring->wanted[r->sh.shard->index])
        {
            ngx_payment_relay_wake(r);
        }
    }

    if (!o->news.timer_set) {
        ngx_payment_outbox_news(&o->news);
    }
}


/* what workers tell */

/* A read has ended: what it found may have been told of, too. */

static void
ngx_payment_outbox_hear_at_read(void *data)
{
    ngx_payment_outbox_t *o = data;

    uint64_t  began;

    began = ngx_payment_clock_ns();

    ngx_payment_outbox_hear(o);

    /* at the end its timer may be over, and is not set again */

    if (o->waits && o->state == NGX_PAYMENT_OUTBOX_RUNNING) {
        o->waits = 0;

        ngx_payment_outbox_pause(o, began);

        /* the timer that is set would be kept, since it is almost as late; and
         * one there must be: who rang in the meantime was not heard */

        ngx_del_timer(&o->news);
        ngx_add_timer(&o->news, ngx_max(o->pause, 1));
    }
}


static void
ngx_payment_outbox_hear(ngx_payment_outbox_t *o)
{
    ngx_uint_t               n;
    ngx_payment_news_item_t  item;

    for (n = 0; n < NGX_PAYMENT_NEWS_ITEMS; n++) {
        if (ngx_payment_news_take(&o->conf->news, &item) != NGX_OK) {
            break;
        }

        ngx_payment_outbox_hear_one(o, &item);
    }

    o->heard += n;
}


/*
 * A shard whose events are told of is read when one of them was not, and else
 * now and then: to find the rows.  Under load the end of such a read is awaited
 * with what was told, for a moment, so that both are one group for Kafka.
 */

static void
ngx_payment_outbox_news(ngx_event_t *ev)
{
    ngx_payment_outbox_t *o = ev->data;

    uint64_t  began;

    if (o->state != NGX_PAYMENT_OUTBOX_RUNNING) {
        return;
    }

    began = ngx_payment_clock_ns();

    ngx_payment_outbox_listen(o);

    if (o->pause && !o->waits) {
        ngx_payment_outbox_read_missed(o);

        if (ngx_payment_outbox_reads(o, began + o->pause * 500000ULL)) {
            o->waits = 1;
            ngx_add_timer(&o->news, o->pause / 4 + 1);
            return;
        }
    }

    o->waits = 0;

    ngx_payment_outbox_hear(o);
    ngx_payment_outbox_read_missed(o);
    ngx_payment_outbox_pause(o, began);

    if (o->pause) {
        ngx_add_timer(&o->news, o->pause);
    }
}


/* How long the pause is after a look into the ring.  It grows with the square
 * of the load: the database has no part in this, so it pays only where each
 * partition is given several events. */

static void
ngx_payment_outbox_pause(ngx_payment_outbox_t *o, uint64_t began_ns)
{
    uint64_t  pause;

    pause = payment_pace_read(&o->pace, began_ns, ngx_payment_clock_ns(),
                              (uint32_t) o->heard);

    o->pause = pause * pause / ngx_max(o->pace.max_ns, 1) / 1000000;
    o->heard = 0;
}


static void
ngx_payment_outbox_read_missed(ngx_payment_outbox_t *o)
{
    ngx_uint_t            i;
    ngx_payment_relay_t  *r;

    for (i = 0; i < o->relays.n; i++) {
        r = &o->relays.relays[i];

        if (ngx_payment_outbox_has_missed(o, r)) {
            ngx_payment_relay_wake(r);
        }
    }
}


/* Are rows being read that were told of?  A read that is due by then, and may
 * begin, does so now. */

static ngx_uint_t
ngx_payment_outbox_reads(ngx_payment_outbox_t *o, uint64_t now_ns)
{
    ngx_uint_t             i, n;
    ngx_payment_reader_t  *rd;

    n = 0;

    for (i = 0; i < o->relays.n; i++) {
        rd = &o->relays.relays[i].reader;

        if (payment_inflight_count(&rd->sh->table, PAYMENT_EVENT_EARLY) == 0) {
            continue;
        }

        ngx_payment_reader_tick(rd, now_ns);
        n += (rd->state == NGX_PAYMENT_READER_READING);
    }

    return n;
}


/* Whatever is told of from now on rings, but during a pause. */

static void
ngx_payment_outbox_listen(ngx_payment_outbox_t *o)
{
    uint64_t                  now;
    ngx_uint_t                i, index;
    ngx_payment_relay_t      *r;
    ngx_payment_news_ring_t  *ring;

    ring = o->conf->news.ring;
    now = ngx_payment_clock_ns();

    for (i = 0; i < o->relays.n; i++) {
        r = &o->relays.relays[i];
        index = r->sh.shard->index;

        if (ngx_payment_reader_listens(&r->reader, now)) {
            ring->wanted[index] = 1;
            o->stats->doorbell_armed[index] = 1;

        } else if (ring->wanted[index]) {
            /* who rang for what it has told might be heard by nobody */
            ring->wanted[index] = 0;
            r->missed = 1;
        }
    }

    ngx_memory_barrier();
}


static void
ngx_payment_outbox_hear_one(ngx_payment_outbox_t *o,
    const ngx_payment_news_item_t *item)
{
    ngx_uint_t            i;
    ngx_payment_relay_t  *r;

    for (i = 0; i < o->relays.n; i++) {
        r = &o->relays.relays[i];

        if (r->sh.shard->common == item->shard) {

            if (ngx_payment_relay_told(r, item) != NGX_OK) {
                r->missed = 1;
            }

            return;
        }
    }
}


static ngx_uint_t
ngx_payment_outbox_has_missed(ngx_payment_outbox_t *o, ngx_payment_relay_t *r)
{
    ngx_uint_t                index;
    ngx_payment_news_ring_t  *ring;

    ring = o->conf->news.ring;
    index = r->sh.shard->index;

    if (!r->missed && ring->missed[index] == r->reader.missed) {
        return 0;
    }

    r->missed = 0;

    return 1;
}


static void
ngx_payment_outbox_tick(ngx_event_t *ev)
{
    uint64_t               now;
    ngx_uint_t             i;
    ngx_payment_outbox_t  *o;

    o = ev->data;

    if (!o->news.timer_set) {
        ngx_payment_outbox_news(&o->news);
    }

    /* after that: nothing may have been sent later than now */

    now = ngx_payment_clock_ns();

    if (ngx_payment_producer_lanes_look(&o->relays.lanes, now)) {
        ngx_payment_relay_excuse_all(&o->relays);
    }

    ngx_payment_breaker_tick(&o->relays.breaker, now);
    ngx_payment_outbox_presume(o, now);
    ngx_payment_outbox_breaker_act(o);
    ngx_payment_outbox_watch(o, now);

    if (o->state == NGX_PAYMENT_OUTBOX_RUNNING) {
        ngx_payment_operator_run(&o->relays);
    }

    for (i = 0; i < o->relays.n; i++) {
        ngx_payment_relay_tick(&o->relays.relays[i], now);
    }

    o->stats->helper.lives[o->life].kafka_up = o->relays.producer.up;

    if (o->stats->helper.pid == (ngx_atomic_uint_t) ngx_pid) {
        ngx_payment_breaker_show(&o->relays.breaker, now);
    }

    ngx_add_timer(ev, o->state == NGX_PAYMENT_OUTBOX_RUNNING
                      ? ngx_min(o->conf->poll_interval,
                                NGX_PAYMENT_OUTBOX_TICK_MAX)
                      : NGX_PAYMENT_OUTBOX_DRAIN_TICK);
}


/*
 * The library promises a report within its timeout.  Should it ever forget
 * one, publishing would stand still, so a new producer takes over.  Several
 * ticks must agree, since after a turn of the event loop that took long the
 * reports may be waiting in the queue.
 */

static void
ngx_payment_outbox_watch(ngx_payment_outbox_t *o, uint64_t now_ns)
{
    uint64_t                 limit, oldest, time;
    ngx_uint_t               i;
    ngx_payment_producer_t  *producer;

    producer = &o->relays.producer;
    time = ngx_payment_producer_lanes_time(&o->relays.lanes, now_ns);
    limit = (producer->timeout + NGX_PAYMENT_OUTBOX_REPORT_PATIENCE)
            * 1000000ULL;

    for (i = 0; i < o->relays.n; i++) {
        oldest = ngx_payment_relay_oldest(&o->relays.relays[i]);

        if (oldest && time - oldest > limit) {
            break;
        }
    }

    if (i == o->relays.n || producer->state != NGX_PAYMENT_PRODUCER_UP) {
        o->overdue = 0;
        return;
    }

    if (++o->overdue == NGX_PAYMENT_OUTBOX_OVERDUE_TICKS) {
        ngx_log_error(NGX_LOG_ALERT, o->log, 0,
                      "payment outbox: no delivery report for %M ms, the Kafka "
                      "producer is given up",
                      producer->timeout + NGX_PAYMENT_OUTBOX_REPORT_PATIENCE);

        ngx_payment_producer_abort(producer,
                                   NGX_PAYMENT_OUTBOX_REPORT_PATIENCE);
    }
}


/*
 * Waiting for reports would take as long as an event may take.  So the breaker
 * learns at once of events that are slow, and of those that are in flight while
 * no broker can be reached; but a connection that is cut and made again within
 * NGX_PAYMENT_OUTBOX_VAIN is no failure, for the library sends again what was
 * on it.
 */

static void
ngx_payment_outbox_presume(ngx_payment_outbox_t *o, uint64_t now_ns)
{
    uint64_t                        down, vain, time;
    ngx_uint_t                      i;
    ngx_payment_breaker_presumed_t  presumed;

    down = o->relays.producer.down_since_ns;
    vain = NGX_PAYMENT_OUTBOX_VAIN * 1000000ULL;
    time = ngx_payment_producer_lanes_time(&o->relays.lanes, now_ns);
    vain = (down && now_ns - down > vain) ? vain : UINT64_MAX;

    ngx_memzero(&presumed, sizeof(ngx_payment_breaker_presumed_t));

    for (i = 0; i < o->relays.n; i++) {
        ngx_payment_breaker_count(&o->relays.breaker, time,
                                  &o->relays.relays[i].sh.table, vain,
                                  &presumed);
    }

    ngx_payment_breaker_presume(&o->relays.breaker, now_ns, &presumed);
}


/*
 * An open breaker sends nothing, so what the producer has in its queue comes
 * back.  The breaker opens in the middle of reports, which is why this is not
 * done there.
 */

static void
ngx_payment_outbox_breaker_act(ngx_payment_outbox_t *o)
{
    ngx_uint_t  i;

    if (!ngx_payment_breaker_opened(&o->relays.breaker)) {
        return;
    }

    ngx_payment_producer_abort(&o->relays.producer, 0);
    ngx_payment_producer_lanes_acquit(&o->relays.lanes);

    for (i = 0; i < o->relays.n; i++) {
        ngx_payment_relay_recall(&o->relays.relays[i]);
        ngx_payment_relay_rewind(&o->relays.relays[i]);
    }
}


/* what the producer tells */

static void
ngx_payment_outbox_report(void *data, payment_event_t *e,
    ngx_payment_verdict_e verdict, rd_kafka_resp_err_t err)
{
    ngx_payment_relay_report(e->table->owner, e, verdict, err);
}


static void
ngx_payment_outbox_abandoned(void *data)
{
    ngx_payment_outbox_t *o = data;

    ngx_uint_t  i;

    for (i = 0; i < o->relays.n; i++) {
        ngx_payment_relay_abandoned(&o->relays.relays[i]);
    }
}


static void
ngx_payment_outbox_room(void *data)
{
    ngx_payment_outbox_t *o = data;

    ngx_uint_t             i;
    ngx_payment_relays_t  *all;

    all = &o->relays;

    ngx_payment_outbox_breaker_act(o);

    /* the room is little, and another relay has the first of it each time */

    all->turn = (all->turn + 1) % all->n;

    for (i = 0; i < all->n; i++) {
        ngx_payment_relay_pump(&all->relays[(all->turn + i) % all->n]);
    }
}


/* ending */

static void
ngx_payment_outbox_exit(void)
{
    if (ngx_payment_outbox_pid != ngx_getpid() || ngx_payment_outbox == NULL) {
        return;
    }

    ngx_payment_outbox_end(ngx_payment_outbox);

    /* a thread may still be connecting */
    ngx_payment_db_exit_process(ngx_payment_outbox->cycle);
}


void
ngx_payment_outbox_drain(ngx_payment_outbox_conf_t *conf, ngx_cycle_t *cycle)
{
    if (ngx_payment_outbox == NULL) {
        return;
    }

    /* The event loop runs on while the outbox drains, and no client is to be
     * accepted any more. */
    ngx_close_listening_sockets(cycle);

    ngx_payment_outbox_end(ngx_payment_outbox);
}


static void
ngx_payment_outbox_end(ngx_payment_outbox_t *o)
{
    uint64_t                     now, until;
    ngx_uint_t                   i, running;
    ngx_payment_helper_stats_t  *helper;

    if (o->state >= NGX_PAYMENT_OUTBOX_DRAINING) {
        return;
    }

    running = (o->state == NGX_PAYMENT_OUTBOX_RUNNING);

    o->state = NGX_PAYMENT_OUTBOX_DRAINING;
    ngx_memzero((void *) o->stats->doorbell_armed,
                sizeof(o->stats->doorbell_armed));

    if (running) {
        ngx_memzero((void *) o->conf->news.ring->wanted,
                    sizeof(o->conf->news.ring->wanted));
    }

    if (o->start.timer_set) {
        ngx_del_timer(&o->start);
    }

    until = running ? ngx_payment_outbox_await(o) : 0;

    if (o->tick.timer_set) {
        ngx_del_timer(&o->tick);
    }

    if (o->news.timer_set) {
        ngx_del_timer(&o->news);
    }

    for (i = 0; i < o->relays.n; i++) {
        ngx_payment_relay_close(&o->relays.relays[i]);
    }

    ngx_payment_exporter_close(o->exporter);

    helper = &o->stats->helper;
    helper->lives[o->life].pid = 0;
    (void) ngx_atomic_cmp_set(&helper->pid, ngx_pid, 0);

    ngx_log_error(NGX_LOG_NOTICE, o->log, 0, "payment outbox: stopped");

    o->state = NGX_PAYMENT_OUTBOX_ENDED;

    now = ngx_payment_clock_ms();
    until = ngx_max(until, now + NGX_PAYMENT_OUTBOX_CLOSE_MIN);

    if (running
        && ngx_payment_producer_close(&o->relays.producer,
                                      (ngx_msec_t) (until - now))
           != NGX_OK)
    {
        /* The library's threads live on, and exit() would take apart what they
         * use. */
        _exit(0);
    }
}


/*
 * Hands out nothing more, waits for what is in flight, deletes what was
 * acknowledged and gives the leases back.  The last third of the time is for
 * deletions and leases: what was not reported by then is given up, and the next
 * holder of the lease publishes it again.  Returns when the time is over.
 */

static uint64_t
ngx_payment_outbox_await(ngx_payment_outbox_t *o)
{
    uint64_t                 now, until, give_up_at;
    ngx_uint_t               i;
    ngx_msec_t               time;
    ngx_payment_producer_t  *producer;

    producer = &o->relays.producer;
    time = ngx_payment_outbox_drain_time(o);
    now = ngx_payment_clock_ms();
    until = now + time;
    give_up_at = now + time - time / 3;

    for (i = 0; i < o->relays.n; i++) {
        ngx_payment_relay_stop(&o->relays.relays[i]);
    }

    ngx_add_timer(&o->tick, 0);

    while (now < until && !ngx_payment_outbox_drained(o)) {

        ngx_process_events_and_timers(o->cycle);

        now = ngx_payment_clock_ms();

        if (now >= give_up_at && o->relays.lanes.outstanding) {
            ngx_log_error(NGX_LOG_WARN, o->log, 0,
                          "payment outbox: %ui events were not acknowledged "
                          "in time and will be published again",
                          o->relays.lanes.outstanding);

            ngx_payment_producer_abort(producer,
                                       (ngx_msec_t) (until > now
                                                     ? until - now : 0)
                                       / 2 + 1);
            give_up_at = until;
        }

        if (ngx_terminate && until > now + NGX_PAYMENT_OUTBOX_TERMINATE_DRAIN) {
            time = ngx_payment_outbox_drain_time(o);
            until = ngx_min(until, now + time);
            give_up_at = ngx_min(give_up_at, now + time - time / 3);
        }
    }

    return until;
}


/* After a TERM the master, if it still lives, kills its children in a second
 * or two. */

static ngx_msec_t
ngx_payment_outbox_drain_time(ngx_payment_outbox_t *o)
{
    if (ngx_terminate
        && (ngx_process == NGX_PROCESS_SINGLE || getppid() == ngx_parent))
    {
        return ngx_min(o->conf->drain_timeout,
                       NGX_PAYMENT_OUTBOX_TERMINATE_DRAIN);
    }

    return o->conf->drain_timeout;
}


static ngx_uint_t
ngx_payment_outbox_drained(ngx_payment_outbox_t *o)
{
    ngx_uint_t  i;

    for (i = 0; i < o->relays.n; i++) {
        if (!ngx_payment_relay_stopped(&o->relays.relays[i])) {
            return 0;
        }
    }

    return 1;
}
