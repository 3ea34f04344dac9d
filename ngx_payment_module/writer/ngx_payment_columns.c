/* Bulk statements and their bound arrays: see ngx_payment_columns.h. */

#include "ngx_payment_assert.h"
#include "ngx_payment_columns.h"


#define NGX_PAYMENT_COLUMNS_MAX   9


/*
 * Rows of one statement: a pointer (and for bytes a length) or a number per
 * parameter.  Texts go as bytes, and times in binary: neither is converted or
 * parsed, which is an eighth of the server's work (see bench/README.md).
 */

typedef struct {
    enum enum_field_types   type;
    void                   *values;      /* pointers, int64_t[] or int8_t[] */
    unsigned long          *lens;
    char                   *indicators;
} ngx_payment_column_t;


struct ngx_payment_columns_s {
    ngx_uint_t              rows_max;
    ngx_uint_t              places[NGX_PAYMENT_STMTS];   /* on a connection;
                                            NGX_PAYMENT_STMTS: not used */
    ngx_uint_t              rows[NGX_PAYMENT_STMTS];
    ngx_payment_column_t    columns[NGX_PAYMENT_STMTS][NGX_PAYMENT_COLUMNS_MAX];

    /* created, updated and expires of each row, when each operation was done,
     * and the batch's own time, the second one without its fraction */
    MYSQL_TIME             *created;
    MYSQL_TIME             *updated;
    MYSQL_TIME             *expires;
    MYSQL_TIME             *done;
    MYSQL_TIME              now;
    MYSQL_TIME              second;
    ngx_pool_t             *pool;
};


static const char  ngx_payment_columns_sql_changes[] =
    "UPDATE payment SET status = ?, captured_amount = ?, refunded_amount = ?,"
    " version = ?, updated_at = ? WHERE id = ? AND version = ?";

static const char  ngx_payment_columns_sql_keys[] =
    "INSERT INTO idempotency_key (key_hash, payment_id, fingerprint, operation,"
    " status, version, captured_amount, refunded_amount, created_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";

static const char  ngx_payment_columns_sql_payments[] =
    "INSERT INTO payment (id, merchant_id, currency, status, amount,"
    " created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?)";

static const char  ngx_payment_columns_sql_expiring_payments[] =
    "INSERT INTO payment (id, merchant_id, currency, status, amount,"
    " created_at, updated_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";

static const char  ngx_payment_columns_sql_events[] =
    "INSERT INTO outbox_event (aggregatetype, aggregateid, type, merchant_id,"
    " version, created_at, traceparent, tracestate, payload)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";

static const char  ngx_payment_columns_sql_operations[] =
    "INSERT INTO payment_operation (payment_id, version, operation, status,"
    " amount, created_at, reason, reference, metadata)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";


static const char  ngx_payment_columns_sql_expiries[] =
    "INSERT INTO payment_expiry (expires_at, payment_id) VALUES (?, ?)";


/* by whether authorizations may expire, and whether operations are kept */

static const char *const
    ngx_payment_columns_texts[2][2][NGX_PAYMENT_STMTS + 1] =
{
    {
        {
            ngx_payment_columns_sql_changes,
            ngx_payment_columns_sql_keys,
            ngx_payment_columns_sql_payments,
            ngx_payment_columns_sql_events
        },
        {
            ngx_payment_columns_sql_changes,
            ngx_payment_columns_sql_keys,
            ngx_payment_columns_sql_payments,
            ngx_payment_columns_sql_events,
            ngx_payment_columns_sql_operations
        }
    },
    {
        {
            ngx_payment_columns_sql_changes,
            ngx_payment_columns_sql_keys,
            ngx_payment_columns_sql_expiring_payments,
            ngx_payment_columns_sql_events,
            ngx_payment_columns_sql_expiries
        },
        {
            ngx_payment_columns_sql_changes,
            ngx_payment_columns_sql_keys,
            ngx_payment_columns_sql_expiring_payments,
            ngx_payment_columns_sql_events,
            ngx_payment_columns_sql_operations,
            ngx_payment_columns_sql_expiries
        }
    }
};


#define BYTES   MYSQL_TYPE_BLOB
#define TIME    MYSQL_TYPE_DATETIME
#define NUMBER  MYSQL_TYPE_LONGLONG
#define SMALL   MYSQL_TYPE_TINY

/* 0 (MYSQL_TYPE_DECIMAL, which is bound nowhere) ends a list.  The last column
 * of a payment is used only where authorizations may expire. */

static const enum enum_field_types
    ngx_payment_columns_types[NGX_PAYMENT_STMTS][NGX_PAYMENT_COLUMNS_MAX + 1] =
{
    { SMALL, NUMBER, NUMBER, NUMBER, TIME, BYTES, NUMBER },
    { BYTES, BYTES, BYTES, SMALL, SMALL, NUMBER, NUMBER, NUMBER, TIME },
    { BYTES, BYTES, BYTES, SMALL, NUMBER, TIME, TIME, TIME },
    { BYTES, BYTES, BYTES, BYTES, NUMBER, TIME, BYTES, BYTES, BYTES },
    { BYTES, NUMBER, SMALL, SMALL, NUMBER, TIME, BYTES, BYTES, BYTES },
    { TIME, BYTES }
};


static void ngx_payment_columns_place(ngx_payment_columns_t *columns,
    const ngx_payment_shard_t *shard);
static void ngx_payment_columns_set_time(MYSQL_TIME *time, int64_t unix_us);
static ngx_int_t ngx_payment_columns_tell_event(ngx_payment_column_t *col,
    ngx_uint_t row, const ngx_str_t *time, const ngx_payment_news_t *news,
    const ngx_payment_shard_t *shard, const ngx_payment_news_commit_t *commit);
static void ngx_payment_columns_add_expiry(ngx_payment_columns_t *columns,
    const payment_t *p, MYSQL_TIME *expires);


const char *const *
ngx_payment_columns_sql(const ngx_payment_shard_t *shard)
{
    return ngx_payment_columns_texts[shard->expiry ? 1 : 0]
                                    [shard->operations ? 1 : 0];
}


/* Where the statements are among those that ngx_payment_columns_sql() has
 * prepared. */

static void
ngx_payment_columns_place(ngx_payment_columns_t *columns,
    const ngx_payment_shard_t *shard)
{
    ngx_uint_t  s, n;

    for (s = 0, n = 0; s < NGX_PAYMENT_STMTS; s++) {

        columns->places[s] = NGX_PAYMENT_STMTS;

        if ((s == NGX_PAYMENT_STMT_OPERATIONS && !shard->operations)
            || (s == NGX_PAYMENT_STMT_EXPIRIES && !shard->expiry))
        {
            continue;
        }

        columns->places[s] = n++;
    }
}


ngx_payment_columns_t *
ngx_payment_columns_create(ngx_uint_t rows_max,
    const ngx_payment_shard_t *shard, ngx_log_t *log)
{
    size_t                  width;
    ngx_uint_t              s, i;
    ngx_pool_t             *pool;
    ngx_payment_column_t   *col;
    ngx_payment_columns_t  *columns;

    pool = ngx_create_pool(4096, log);
    if (pool == NULL) {
        return NULL;
    }

    columns = ngx_pcalloc(pool, sizeof(ngx_payment_columns_t));
    if (columns == NULL) {
        goto failed;
    }

    columns->pool = pool;
    columns->rows_max = rows_max;
    ngx_payment_columns_place(columns, shard);

    columns->created = ngx_palloc(pool, rows_max * sizeof(MYSQL_TIME));
    columns->updated = ngx_palloc(pool, rows_max * sizeof(MYSQL_TIME));
    columns->expires = ngx_palloc(pool, rows_max * sizeof(MYSQL_TIME));
    columns->done = ngx_palloc(pool, rows_max * sizeof(MYSQL_TIME));

    if (columns->created == NULL || columns->updated == NULL
        || columns->expires == NULL || columns->done == NULL)
    {
        goto failed;
    }

    for (s = 0; s < NGX_PAYMENT_STMTS; s++) {

        if (columns->places[s] == NGX_PAYMENT_STMTS) {
            continue;
        }

        for (i = 0; ngx_payment_columns_types[s][i]; i++) {
            col = &columns->columns[s][i];
            col->type = ngx_payment_columns_types[s][i];
            width = (col->type == SMALL) ? 1 : 8;

            col->values = ngx_pcalloc(pool, rows_max * width);
            col->indicators = ngx_pcalloc(pool, rows_max);
            col->lens = NULL;

            if (col->type == BYTES) {
                col->lens = ngx_pcalloc(pool,
                                        rows_max * sizeof(unsigned long));
                if (col->lens == NULL) {
                    goto failed;
                }
            }

            if (col->values == NULL || col->indicators == NULL) {
                goto failed;
            }
        }
    }

    return columns;

failed:

    ngx_destroy_pool(pool);

    return NULL;
}


void
ngx_payment_columns_destroy(ngx_payment_columns_t *columns)
{
    ngx_destroy_pool(columns->pool);
}


ngx_int_t
ngx_payment_columns_bind(ngx_payment_columns_t *columns, ngx_payment_db_t *db)
{
    ngx_uint_t             s, i;
    MYSQL_BIND             bind[NGX_PAYMENT_COLUMNS_MAX];
    MYSQL_STMT            *stmt;
    unsigned int           rows;
    ngx_payment_column_t  *col;

    rows = (unsigned int) columns->rows_max;

    for (s = 0; s < NGX_PAYMENT_STMTS; s++) {

        if (columns->places[s] == NGX_PAYMENT_STMTS) {
            continue;
        }

        stmt = db->stmts[columns->places[s]];
        ngx_memzero(bind, sizeof(bind));

        for (i = 0; ngx_payment_columns_types[s][i]; i++) {
            col = &columns->columns[s][i];
            bind[i].buffer_type = col->type;
            bind[i].buffer = col->values;
            bind[i].length = col->lens;
            bind[i].u.indicator = col->indicators;
        }

        if (mysql_stmt_attr_set(stmt, STMT_ATTR_ARRAY_SIZE, &rows)
            || mysql_stmt_bind_param(stmt, bind))
        {
            ngx_log_error(NGX_LOG_ALERT, db->log, 0,
                          "payment: binding statement %ui failed: %s",
                          s, mysql_stmt_error(stmt));
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


void
ngx_payment_columns_reset(ngx_payment_columns_t *columns)
{
    ngx_memzero(columns->rows, sizeof(columns->rows));

    ngx_payment_columns_set_time(&columns->now,
                                 (int64_t) ngx_payment_unix_us());
    columns->second = columns->now;
    columns->second.second_part = 0;
}


static void
ngx_payment_columns_set_time(MYSQL_TIME *time, int64_t unix_us)
{
    ngx_tm_t  tm;

    ngx_gmtime((time_t) (unix_us / 1000000), &tm);

    ngx_memzero(time, sizeof(MYSQL_TIME));
    time->time_type = MYSQL_TIMESTAMP_DATETIME;
    time->year = tm.ngx_tm_year;
    time->month = tm.ngx_tm_mon;
    time->day = tm.ngx_tm_mday;
    time->hour = tm.ngx_tm_hour;
    time->minute = tm.ngx_tm_min;
    time->second = tm.ngx_tm_sec;
    time->second_part = (unsigned long) (unix_us % 1000000);
}


static void
ngx_payment_columns_time(ngx_payment_column_t *col, ngx_uint_t row,
    MYSQL_TIME *time)
{
    ((MYSQL_TIME **) col->values)[row] = time;
    col->indicators[row] = STMT_INDICATOR_NONE;
}


static void
ngx_payment_columns_bytes(ngx_payment_column_t *col, ngx_uint_t row,
    const void *bytes, size_t len)
{
    ((const char **) col->values)[row] = bytes;
    col->lens[row] = len;
    col->indicators[row] = bytes ? STMT_INDICATOR_NONE : STMT_INDICATOR_NULL;
}


static void
ngx_payment_columns_number(ngx_payment_column_t *col, ngx_uint_t row,
    int64_t number)
{
    if (col->type == SMALL) {
        ((int8_t *) col->values)[row] = (int8_t) number;
    } else {
        ((int64_t *) col->values)[row] = number;
    }

    col->indicators[row] = STMT_INDICATOR_NONE;
}


/* What most rows have is stored as NULL, which takes no room. */

static void
ngx_payment_columns_number_or_null(ngx_payment_column_t *col, ngx_uint_t row,
    int64_t number, int64_t usual)
{
    ngx_payment_columns_number(col, row, number);

    if (number == usual) {
        col->indicators[row] = STMT_INDICATOR_NULL;
    }
}


static ngx_payment_column_t *
ngx_payment_columns_row(ngx_payment_columns_t *columns, ngx_payment_stmt_e s,
    ngx_uint_t *row)
{
    ngx_payment_assert(columns->rows[s] < columns->rows_max);

    *row = columns->rows[s]++;

    return columns->columns[s];
}


void
ngx_payment_columns_add_change(ngx_payment_columns_t *columns,
    const payment_t *p, uint32_t version)
{
    ngx_uint_t             row;
    ngx_payment_column_t  *col;

    col = ngx_payment_columns_row(columns, NGX_PAYMENT_STMT_CHANGES, &row);

    ngx_payment_columns_set_time(&columns->updated[row], p->updated_ms * 1000);

    ngx_payment_columns_number(&col[0], row, p->status);
    ngx_payment_columns_number(&col[1], row, p->captured);
    ngx_payment_columns_number(&col[2], row, p->refunded);
    ngx_payment_columns_number(&col[3], row, p->version);
    ngx_payment_columns_time(&col[4], row, &columns->updated[row]);
    ngx_payment_columns_bytes(&col[5], row, p->id, PAYMENT_ID_SIZE);
    ngx_payment_columns_number(&col[6], row, version);
}


void
ngx_payment_columns_add_key(ngx_payment_columns_t *columns,
    const ngx_payment_op_t *op)
{
    ngx_uint_t                row;
    const payment_t          *p;
    ngx_payment_column_t     *col;
    const payment_request_t  *r;

    p = &op->payment;
    r = &op->request;
    col = ngx_payment_columns_row(columns, NGX_PAYMENT_STMT_KEYS, &row);

    ngx_payment_columns_bytes(&col[0], row, r->key_hash, PAYMENT_KEY_HASH_SIZE);
    ngx_payment_columns_bytes(&col[1], row, p->id,
                              r->operation == PAYMENT_AUTHORIZE
                              ? PAYMENT_ID_OWN_SIZE : PAYMENT_ID_SIZE);
    ngx_payment_columns_bytes(&col[2], row, r->fingerprint,
                              PAYMENT_FINGERPRINT_SIZE);
    ngx_payment_columns_number(&col[3], row, r->operation);
    ngx_payment_columns_number_or_null(&col[4], row, p->status,
                                       PAYMENT_AUTHORIZED);
    ngx_payment_columns_number_or_null(&col[5], row, p->version, 1);
    ngx_payment_columns_number_or_null(&col[6], row, p->captured, 0);
    ngx_payment_columns_number_or_null(&col[7], row, p->refunded, 0);
    ngx_payment_columns_time(&col[8], row, &columns->second);

    if (r->operation == PAYMENT_AUTHORIZE) {
        /* the payment's id has the time of an authorization */
        col[8].indicators[row] = STMT_INDICATOR_NULL;
    }
}


void
ngx_payment_columns_add_payment(ngx_payment_columns_t *columns,
    const ngx_payment_op_t *op)
{
    ngx_uint_t             row;
    const payment_t       *p;
    ngx_payment_column_t  *col;

    p = &op->payment;
    col = ngx_payment_columns_row(columns, NGX_PAYMENT_STMT_PAYMENTS, &row);

    ngx_payment_columns_set_time(&columns->created[row], p->created_ms * 1000);

    ngx_payment_columns_bytes(&col[0], row, p->id, PAYMENT_ID_SIZE);
    ngx_payment_columns_bytes(&col[1], row, p->merchant, p->merchant_len);
    ngx_payment_columns_bytes(&col[2], row, p->currency, 3);
    ngx_payment_columns_number(&col[3], row, p->status);
    ngx_payment_columns_number(&col[4], row, p->amount);
    ngx_payment_columns_time(&col[5], row, &columns->created[row]);
    ngx_payment_columns_time(&col[6], row, &columns->created[row]);

    if (p->expires_ms == 0) {
        col[7].indicators[row] = STMT_INDICATOR_NULL;
        return;
    }

    ngx_payment_columns_set_time(&columns->expires[row], p->expires_ms * 1000);
    ngx_payment_columns_time(&col[7], row, &columns->expires[row]);

    ngx_payment_columns_add_expiry(columns, p, &columns->expires[row]);
}


/* The time is the one that the payment's row has. */

static void
ngx_payment_columns_add_expiry(ngx_payment_columns_t *columns,
    const payment_t *p, MYSQL_TIME *expires)
{
    ngx_uint_t             row;
    ngx_payment_column_t  *col;

    col = ngx_payment_columns_row(columns, NGX_PAYMENT_STMT_EXPIRIES, &row);

    ngx_payment_columns_time(&col[0], row, expires);
    ngx_payment_columns_bytes(&col[1], row, p->id, PAYMENT_ID_SIZE);
}


void
ngx_payment_columns_add_event(ngx_payment_columns_t *columns,
    const ngx_payment_op_t *op, const u_char *payload, size_t len)
{
    ngx_uint_t             row;
    const char            *type;
    const payment_t       *p;
    ngx_payment_column_t  *col;

    p = &op->payment;
    type = payment_name_event(op->request.operation);
    col = ngx_payment_columns_row(columns, NGX_PAYMENT_STMT_EVENTS, &row);

    ngx_payment_columns_bytes(&col[0], row, "payment", sizeof("payment") - 1);
    ngx_payment_columns_bytes(&col[1], row, op->id_text, PAYMENT_ID_TEXT_LEN);
    ngx_payment_columns_bytes(&col[2], row, type, ngx_strlen(type));
    ngx_payment_columns_bytes(&col[3], row, p->merchant, p->merchant_len);
    ngx_payment_columns_number(&col[4], row, p->version);
    ngx_payment_columns_time(&col[5], row, &columns->now);
    ngx_payment_columns_bytes(&col[6], row,
                              op->traceparent_len ? op->traceparent : NULL,
                              op->traceparent_len);
    ngx_payment_columns_bytes(&col[7], row, op->tracestate.data,
                              op->tracestate.len);
    ngx_payment_columns_bytes(&col[8], row, payload, len);
}


void
ngx_payment_columns_tell(ngx_payment_columns_t *columns,
    const ngx_payment_news_t *news, const ngx_payment_shard_t *shard,
    const ngx_payment_news_commit_t *commit)
{
    u_char                    text[sizeof("2026-11-22 18:00:00.123456")];
    ngx_str_t                 time;
    ngx_uint_t                row, missed;
    MYSQL_TIME               *now;
    ngx_payment_column_t     *col;
    ngx_payment_news_ring_t  *ring;

    ring = news->ring;
    col = columns->columns[NGX_PAYMENT_STMT_EVENTS];
    missed = columns->rows[NGX_PAYMENT_STMT_EVENTS];

    if (ring->wanted[shard->index] && ngx_payment_news_lock(news)) {
        now = &columns->now;

        time.data = text;
        time.len =
            ngx_sprintf(text, "%04uD-%02uD-%02uD %02uD:%02uD:%02uD.%06uD",
                        now->year, now->month, now->day, now->hour,
                        now->minute, now->second,
                        (uint32_t) now->second_part)
            - text;

        for (row = 0; row < columns->rows[NGX_PAYMENT_STMT_EVENTS]; row++) {
            if (ngx_payment_columns_tell_event(col, row, &time, news, shard,
                                               commit)
                == NGX_OK)
            {
                missed--;
            }
        }

        ngx_shmtx_unlock(news->mutex);
    }

    if (missed) {
        (void) ngx_atomic_fetch_add(&ring->missed[shard->index],
                                    (ngx_atomic_int_t) missed);
    }
}


static ngx_int_t
ngx_payment_columns_tell_event(ngx_payment_column_t *col, ngx_uint_t row,
    const ngx_str_t *time, const ngx_payment_news_t *news,
    const ngx_payment_shard_t *shard, const ngx_payment_news_commit_t *commit)
{
    ngx_str_t    texts[NGX_PAYMENT_NEWS_COLUMNS];
    ngx_uint_t   i;

    static const ngx_uint_t  places[NGX_PAYMENT_NEWS_COLUMNS] = {
        1, 2, 3, 5, 6, 7, 8
    };

    if (((int64_t *) col[4].values)[row] != 1) {
        return NGX_DECLINED;
    }

    for (i = 0; i < NGX_PAYMENT_NEWS_COLUMNS; i++) {
        if (i != NGX_PAYMENT_NEWS_CREATED_AT) {
            texts[i].data = ((u_char **) col[places[i]].values)[row];
            texts[i].len = texts[i].data ? col[places[i]].lens[row] : 0;
        }
    }

    texts[NGX_PAYMENT_NEWS_CREATED_AT] = *time;

    return ngx_payment_news_put(news, shard, commit, texts);
}


/* A text that was not given is NULL. */

static void
ngx_payment_columns_text(ngx_payment_column_t *col, ngx_uint_t row,
    const char *text, size_t len)
{
    ngx_payment_columns_bytes(col, row, len ? text : NULL, len);
}


/* Of an authorization the payment's row tells all that was done, but its
 * metadata: each row that is not written is a tenth of what an authorization
 * costs the database. */

void
ngx_payment_columns_add_operation(ngx_payment_columns_t *columns,
    const ngx_payment_op_t *op)
{
    ngx_uint_t                row;
    const payment_t          *p;
    ngx_payment_column_t     *col;
    const payment_request_t  *r;

    p = &op->payment;
    r = &op->request;

    if (r->operation == PAYMENT_AUTHORIZE && r->metadata_len == 0) {
        return;
    }

    col = ngx_payment_columns_row(columns, NGX_PAYMENT_STMT_OPERATIONS, &row);

    ngx_payment_columns_set_time(&columns->done[row], p->updated_ms * 1000);

    ngx_payment_columns_bytes(&col[0], row, p->id, PAYMENT_ID_SIZE);
    ngx_payment_columns_number(&col[1], row, p->version);
    ngx_payment_columns_number(&col[2], row, r->operation);
    ngx_payment_columns_number(&col[3], row, p->status);
    ngx_payment_columns_number(&col[4], row, p->operation_amount);
    ngx_payment_columns_time(&col[5], row, &columns->done[row]);
    ngx_payment_columns_text(&col[6], row, r->reason, r->reason_len);
    ngx_payment_columns_text(&col[7], row, r->reference, r->reference_len);
    ngx_payment_columns_text(&col[8], row, r->metadata, r->metadata_len);
}


ngx_uint_t
ngx_payment_columns_statements(ngx_payment_columns_t *columns,
    ngx_payment_db_t *db, ngx_payment_db_stmt_t *stmts)
{
    ngx_uint_t    s, n;
    MYSQL_STMT   *stmt;
    unsigned int  rows;

    n = 0;

    for (s = 0; s < NGX_PAYMENT_STMTS; s++) {

        rows = (unsigned int) columns->rows[s];
        if (rows == 0) {
            continue;
        }

        stmt = db->stmts[columns->places[s]];
        (void) mysql_stmt_attr_set(stmt, STMT_ATTR_ARRAY_SIZE, &rows);

        stmts[n].stmt = stmt;
        stmts[n++].rows = rows;
    }

    return n;
}
