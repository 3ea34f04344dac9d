/*
 * What MariaDB itself can take: the module's own tables and statements from a
 * bare client, no HTTP, no JSON, batches always full.
 *
 *     physical SOCKET DATABASE USER PASSWORD CONNECTIONS ROWS SECONDS
 *
 * ROWS > 1: batches of that many payments, bulk-bound, the three inserts sent
 * together and COMMIT as the second round trip: the module's shape.
 * ROWS = 1: one transaction per payment in four round trips: what an
 * application does that knows nothing of its neighbours.
 *
 * Prints one line:  payments=N rate=N p50_ms=N p99_ms=N  (latency of a commit,
 * from the first byte sent to COMMIT answered).
 */

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <mysql.h>


#define ROWS_MAX         1024
#define CONNECTIONS_MAX  256
#define SAMPLES_MAX      400000
#define PARAMS_MAX       9
#define STATEMENTS       3


typedef struct {
    char           key_hash[16];
    char           id[16];
    char           fingerprint[8];
    char           id_text[37];
    char           merchant[33];
    char           payload[320];
    unsigned long  len_16, len_10, len_8, len_36, len_3;
    unsigned long  len_merchant, len_payload, len_type, len_operation;
    char           indicator, null;
    int64_t        amount;
} row_t;


typedef struct {
    pthread_t      thread;
    MYSQL         *mysql;
    MYSQL_STMT    *stmts[STATEMENTS];
    row_t         *rows;
    uint64_t       payments;
    uint32_t      *samples_us;
    size_t         nsamples;
    uint64_t       counter;
    uint32_t       number;
} client_t;


static const char *const  statements[STATEMENTS] = {
    "INSERT INTO idempotency_key (key_hash, payment_id, fingerprint, operation,"
    " status, version, captured_amount, refunded_amount, created_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "INSERT INTO payment (id, merchant_id, currency, status, amount,"
    " created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
    "INSERT INTO outbox_event (aggregatetype, aggregateid, type, merchant_id,"
    " version, created_at, traceparent, payload)"
    " VALUES (?, ?, ?, ?, 1, ?, ?, ?)"
};

static const MYSQL_TIME  now = {
    .year = 2026, .month = 1, .day = 1, .second_part = 123000,
    .time_type = MYSQL_TIMESTAMP_DATETIME
};

static char  aggregate[] = "payment";
static char  type[] = "authorized";
static char  currency[] = "KRW";
static char  one_char[] = "\1";

static unsigned  rows_per_batch;
static double    seconds;


static void
die(const char *what, const char *why)
{
    fprintf(stderr, "physical: %s: %s\n", what, why);
    exit(1);
}


static uint64_t
now_us(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}


static void
fill_row(client_t *c, row_t *row)
{
    unsigned   i;
    uint64_t   n;

    n = ++c->counter;

    if (getrandom(row->key_hash, sizeof(row->key_hash), 0) != 16) {
        die("getrandom()", strerror(errno));
    }

    /* ids grow at one end, as UUIDv7s do, a byte is for each connection, and
     * they end as the key does, which makes its row narrow */
    for (i = 0; i < 8; i++) {
        row->id[i] = (char) (n >> (56 - 8 * i));
    }

    row->id[8] = (char) c->number;
    memcpy(row->id + 10, row->key_hash + 10, 6);
    memcpy(row->fingerprint, row->key_hash + 8, 8);

    for (i = 0; i < 16; i++) {
        sprintf(row->id_text + 2 * i, "%02x", (unsigned char) row->id[i]);
    }

    memcpy(row->id_text + 32, "0000", 4);

    row->len_merchant = (unsigned long) sprintf(row->merchant, "MERCHANT-%u",
                                                (unsigned) (n % 1000 + 1));
    row->amount = (int64_t) (n % 50 + 1) * 1000;
    row->len_payload = (unsigned long) sprintf(row->payload,
        "{\"eventType\":\"authorized\",\"paymentId\":\"%s\",\"merchantId\":"
        "\"%s\",\"amount\":%lld,\"currency\":\"KRW\",\"status\":\"AUTHORIZED\","
        "\"version\":1,\"capturedAmount\":0,\"refundedAmount\":0,"
        "\"operationAmount\":%lld,\"occurredAt\":\"2026-01-01T00:00:00.000Z\"}",
        row->id_text, row->merchant, (long long) row->amount,
        (long long) row->amount);
}


/* Constant values are repeated in each row: row-wise binding has no other. */

static void
bind_text(MYSQL_BIND *b, enum enum_field_types type, void *buffer,
    unsigned long *len, char *indicator)
{
    memset(b, 0, sizeof(MYSQL_BIND));
    b->buffer_type = type;
    b->buffer = buffer;
    b->length = len;
    b->u.indicator = indicator;
}


/* a number that is NULL */

static void
bind_null(MYSQL_BIND *b, row_t *row, unsigned bulk)
{
    bind_text(b, bulk ? MYSQL_TYPE_LONGLONG : MYSQL_TYPE_NULL, &row->amount,
              NULL, bulk ? &row->null : NULL);
}


typedef struct {
    row_t          row;
    char           currency[4];
    char           aggregate[8];
    char           type[12];
    MYSQL_TIME     time;
    int8_t         operation, status;
} bound_t;


static void
bind_rows(client_t *c, bound_t *r, unsigned bulk)
{
    size_t        row_size;
    char         *none;
    unsigned      i, n;
    MYSQL_BIND    b[STATEMENTS][PARAMS_MAX];

    none = bulk ? &r->row.indicator : NULL;
    row_size = sizeof(bound_t);
    n = rows_per_batch;

    bind_text(&b[0][0], MYSQL_TYPE_BLOB, r->row.key_hash, &r->row.len_16, none);
    bind_text(&b[0][1], MYSQL_TYPE_BLOB, r->row.id, &r->row.len_10, none);
    bind_text(&b[0][2], MYSQL_TYPE_BLOB, r->row.fingerprint, &r->row.len_8,
              none);
    bind_text(&b[0][3], MYSQL_TYPE_TINY, &r->operation, NULL, none);

    for (i = 4; i < 9; i++) {
        bind_null(&b[0][i], &r->row, bulk);
    }

    bind_text(&b[1][0], MYSQL_TYPE_BLOB, r->row.id, &r->row.len_16, none);
    bind_text(&b[1][1], MYSQL_TYPE_BLOB, r->row.merchant,
              &r->row.len_merchant, none);
    bind_text(&b[1][2], MYSQL_TYPE_BLOB, r->currency, &r->row.len_3, none);
    bind_text(&b[1][3], MYSQL_TYPE_TINY, &r->status, NULL, none);
    bind_text(&b[1][4], MYSQL_TYPE_LONGLONG, &r->row.amount, NULL, none);
    bind_text(&b[1][5], MYSQL_TYPE_DATETIME, &r->time, NULL, none);
    bind_text(&b[1][6], MYSQL_TYPE_DATETIME, &r->time, NULL, none);

    bind_text(&b[2][0], MYSQL_TYPE_BLOB, r->aggregate, &r->row.len_operation,
              none);
    bind_text(&b[2][1], MYSQL_TYPE_BLOB, r->row.id_text, &r->row.len_36,
              none);
    bind_text(&b[2][2], MYSQL_TYPE_BLOB, r->type, &r->row.len_type, none);
    bind_text(&b[2][3], MYSQL_TYPE_BLOB, r->row.merchant,
              &r->row.len_merchant, none);
    bind_text(&b[2][4], MYSQL_TYPE_DATETIME, &r->time, NULL, none);
    bind_null(&b[2][5], &r->row, bulk);
    bind_text(&b[2][6], MYSQL_TYPE_BLOB, r->row.payload,
              &r->row.len_payload, none);

    for (i = 0; i < STATEMENTS; i++) {
        if (bulk
            && (mysql_stmt_attr_set(c->stmts[i], STMT_ATTR_ROW_SIZE, &row_size)
                || mysql_stmt_attr_set(c->stmts[i], STMT_ATTR_ARRAY_SIZE, &n)))
        {
            die("mysql_stmt_attr_set()", mysql_stmt_error(c->stmts[i]));
        }

        if (mysql_stmt_bind_param(c->stmts[i], b[i])) {
            die("mysql_stmt_bind_param()", mysql_stmt_error(c->stmts[i]));
        }
    }
}


static void
run_batch(client_t *c, unsigned bulk)
{
    unsigned  i;

    for (i = 0; i < STATEMENTS; i++) {
        if (mysql_stmt_execute(c->stmts[i])) {
            die("mysql_stmt_execute()", mysql_stmt_error(c->stmts[i]));
        }
    }

    if (!bulk) {
        if (mysql_query(c->mysql, "COMMIT")) {
            die("COMMIT", mysql_error(c->mysql));
        }

        return;
    }

    for (i = 0; i < STATEMENTS; i++) {
        if (mysql_read_query_result(c->mysql)) {
            die("bulk insert", mysql_error(c->mysql));
        }
    }

    if (mysql_send_query(c->mysql, "COMMIT", 6)
        || mysql_read_query_result(c->mysql))
    {
        die("COMMIT", mysql_error(c->mysql));
    }
}


static void *
run_client(void *data)
{
    client_t  *c = data;

    my_bool    yes;
    bound_t   *rows;
    unsigned   i, bulk;
    uint64_t   start, end, before, after;

    mysql_thread_init();

    bulk = rows_per_batch > 1;
    yes = 1;

    rows = calloc(rows_per_batch, sizeof(bound_t));
    if (rows == NULL) {
        die("calloc()", "no memory");
    }

    for (i = 0; i < rows_per_batch; i++) {
        rows[i].row.len_16 = 16;
        rows[i].row.len_10 = 10;
        rows[i].row.len_8 = 8;
        rows[i].row.len_36 = 36;
        rows[i].row.len_3 = 3;
        rows[i].row.len_type = sizeof(type) - 1;
        rows[i].row.len_operation = sizeof(aggregate) - 1;
        rows[i].row.null = STMT_INDICATOR_NULL;
        memcpy(rows[i].currency, currency, sizeof(currency));
        memcpy(rows[i].aggregate, aggregate, sizeof(aggregate));
        memcpy(rows[i].type, type, sizeof(type));
        rows[i].time = now;
        rows[i].operation = one_char[0];
        rows[i].status = one_char[0];
    }

    bind_rows(c, rows, bulk);

    if (bulk) {
        mysql_optionsv(c->mysql, MARIADB_OPT_SKIP_READ_RESPONSE, &yes);
    }

    start = now_us();
    end = start + (uint64_t) (seconds * 1e6);

    for (before = start; before < end; before = now_us()) {

        for (i = 0; i < rows_per_batch; i++) {
            fill_row(c, &rows[i].row);
        }

        before = now_us();
        run_batch(c, bulk);
        after = now_us();

        c->payments += rows_per_batch;

        if (c->nsamples < SAMPLES_MAX) {
            c->samples_us[c->nsamples++] = (uint32_t) (after - before);
        }
    }

    mysql_close(c->mysql);
    free(rows);
    mysql_thread_end();

    return NULL;
}


static void
open_client(client_t *c, char **argv, uint32_t number)
{
    unsigned         i;
    uint64_t         base;
    struct timespec  ts;

    c->mysql = mysql_init(NULL);

    if (mysql_real_connect(c->mysql, "localhost", argv[3], argv[4], argv[2], 0,
                           argv[1], 0)
        == NULL)
    {
        die("connecting", mysql_error(c->mysql));
    }

    if (mysql_query(c->mysql, "SET SESSION autocommit = 0,"
                    " time_zone = '+00:00'")
        || mysql_query(c->mysql,
                    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"))
    {
        die("session", mysql_error(c->mysql));
    }

    for (i = 0; i < STATEMENTS; i++) {
        c->stmts[i] = mysql_stmt_init(c->mysql);

        if (mysql_stmt_prepare(c->stmts[i], statements[i],
                               strlen(statements[i])))
        {
            die("mysql_stmt_prepare()", mysql_stmt_error(c->stmts[i]));
        }
    }

    clock_gettime(CLOCK_REALTIME, &ts);
    base = ((uint64_t) ts.tv_sec * 1000 + (uint64_t) ts.tv_nsec / 1000000)
           << 16;

    c->counter = base;
    c->number = number;
    c->samples_us = malloc(SAMPLES_MAX * sizeof(uint32_t));

    if (c->samples_us == NULL) {
        die("malloc()", "no memory");
    }
}


static int
compare(const void *one, const void *two)
{
    uint32_t  a = *(const uint32_t *) one, b = *(const uint32_t *) two;

    return (a > b) - (a < b);
}


int
main(int argc, char **argv)
{
    size_t     n, total;
    uint32_t  *all;
    unsigned   i, connections;
    uint64_t   start, payments;
    double     elapsed;

    static client_t  clients[CONNECTIONS_MAX];

    if (argc != 8) {
        fprintf(stderr, "usage: physical SOCKET DATABASE USER PASSWORD "
                "CONNECTIONS ROWS SECONDS\n");
        return 2;
    }

    connections = (unsigned) atoi(argv[5]);
    rows_per_batch = (unsigned) atoi(argv[6]);
    seconds = atof(argv[7]);

    if (connections < 1 || connections > CONNECTIONS_MAX
        || rows_per_batch < 1 || rows_per_batch > ROWS_MAX || seconds <= 0)
    {
        die("arguments", "1..256 connections, 1..1024 rows, some seconds");
    }

    mysql_library_init(0, NULL, NULL);

    for (i = 0; i < connections; i++) {
        open_client(&clients[i], argv, i);
    }

    start = now_us();

    for (i = 0; i < connections; i++) {
        pthread_create(&clients[i].thread, NULL, run_client, &clients[i]);
    }

    payments = 0;
    total = 0;

    for (i = 0; i < connections; i++) {
        pthread_join(clients[i].thread, NULL);
        payments += clients[i].payments;
        total += clients[i].nsamples;
    }

    elapsed = (double) (now_us() - start) / 1e6;

    all = malloc((total + 1) * sizeof(uint32_t));
    if (all == NULL || total == 0) {
        die("result", "nothing was measured");
    }

    n = 0;

    for (i = 0; i < connections; i++) {
        memcpy(all + n, clients[i].samples_us,
               clients[i].nsamples * sizeof(uint32_t));
        n += clients[i].nsamples;
    }

    qsort(all, total, sizeof(uint32_t), compare);

    printf("payments=%llu rate=%.0f p50_ms=%.3f p99_ms=%.3f\n",
           (unsigned long long) payments, (double) payments / elapsed,
           all[total / 2] / 1000.0, all[total * 99 / 100] / 1000.0);

    return 0;
}
