/*
 * A row of outbox_event, taken out of its result; see ngx_payment_row.h.
 */

#include "ngx_payment_row.h"


static ngx_int_t ngx_payment_row_time(ngx_payment_row_t *row, const char *text,
    size_t len);
static u_char *ngx_payment_row_text(ngx_str_t *to, u_char *p, char *from,
    size_t len);


ngx_payment_row_t *
ngx_payment_row_create(MYSQL_ROW columns, unsigned long *lengths,
    ngx_log_t *log)
{
    size_t              size;
    u_char             *p;
    ngx_str_t          *text;
    ngx_uint_t          i, at;
    ngx_payment_row_t  *row;

    static const struct {
        ngx_payment_row_column_e  column;
        size_t                    offset;
    } texts[] = {
        { NGX_PAYMENT_ROW_AGGREGATEID,
          offsetof(ngx_payment_row_t, aggregateid) },
        { NGX_PAYMENT_ROW_TYPE, offsetof(ngx_payment_row_t, type) },
        { NGX_PAYMENT_ROW_MERCHANT, offsetof(ngx_payment_row_t, merchant) },
        { NGX_PAYMENT_ROW_TRACEPARENT,
          offsetof(ngx_payment_row_t, traceparent) },
        { NGX_PAYMENT_ROW_TRACESTATE, offsetof(ngx_payment_row_t, tracestate) },
        { NGX_PAYMENT_ROW_PAYLOAD, offsetof(ngx_payment_row_t, payload) }
    };

    size = sizeof(ngx_payment_row_t);

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        size += lengths[texts[i].column] + 1;
    }

    row = ngx_alloc(size, log);
    if (row == NULL) {
        return NULL;
    }

    row->size = size;
    row->id = ngx_payment_row_number(columns[NGX_PAYMENT_ROW_ID]);
    row->version = (uint32_t)
                   ngx_payment_row_number(columns[NGX_PAYMENT_ROW_VERSION]);

    p = (u_char *) (row + 1);

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        at = texts[i].column;
        text = (ngx_str_t *) ((u_char *) row + texts[i].offset);
        p = ngx_payment_row_text(text, p, columns[at], lengths[at]);
    }

    if (ngx_payment_row_time(row, columns[NGX_PAYMENT_ROW_CREATED_AT],
                             lengths[NGX_PAYMENT_ROW_CREATED_AT])
        != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ALERT, log, 0,
                      "payment outbox: event %uL has an unreadable time",
                      row->id);
        ngx_free(row);
        return NULL;
    }

    return row;
}


ngx_payment_row_t *
ngx_payment_row_create_told(const ngx_payment_news_item_t *item,
    ngx_log_t *log)
{
    char           *p;
    char           *columns[NGX_PAYMENT_ROW_COLUMNS_N];
    ngx_uint_t      i;
    unsigned long   lengths[NGX_PAYMENT_ROW_COLUMNS_N];

    columns[NGX_PAYMENT_ROW_ID] = "0";
    columns[NGX_PAYMENT_ROW_VERSION] = "1";

    p = (char *) item->text;

    for (i = 0; i < NGX_PAYMENT_NEWS_COLUMNS; i++) {
        columns[NGX_PAYMENT_ROW_AGGREGATEID + i] = p;
        lengths[NGX_PAYMENT_ROW_AGGREGATEID + i] = item->lens[i];
        p += item->lens[i];
    }

    return ngx_payment_row_create(columns, lengths, log);
}


void
ngx_payment_row_free(void *row)
{
    ngx_free(row);
}


uint64_t
ngx_payment_row_number(const char *text)
{
    uint64_t  n;

    n = 0;

    while (text && *text >= '0' && *text <= '9') {
        n = n * 10 + (uint64_t) (*text++ - '0');
    }

    return n;
}


/* "2026-11-22 18:00:00.123456", which is what DATETIME(6) always gives */

static ngx_int_t
ngx_payment_row_time(ngx_payment_row_t *row, const char *text, size_t len)
{
    ngx_int_t    n[7];
    ngx_uint_t   i;
    uint64_t     days, year, month;

    static const struct {
        ngx_uint_t  at;
        ngx_uint_t  len;
    } parts[7] = {
        { 0, 4 }, { 5, 2 }, { 8, 2 }, { 11, 2 }, { 14, 2 }, { 17, 2 }, { 20, 6 }
    };

    if (text == NULL || len != NGX_PAYMENT_ROW_TIME_LEN - 1) {
        return NGX_ERROR;
    }

    for (i = 0; i < 7; i++) {
        n[i] = ngx_atoi((u_char *) text + parts[i].at, parts[i].len);

        if (n[i] == NGX_ERROR) {
            return NGX_ERROR;
        }
    }

    ngx_memcpy(row->time, text, len);
    row->time[10] = 'T';
    row->time[len] = 'Z';

    /* days since 1970 of a proleptic Gregorian date, years from March on */

    month = (uint64_t) (n[1] + 9) % 12;
    year = (uint64_t) n[0] - (n[1] <= 2);
    days = 365 * year + year / 4 - year / 100 + year / 400
           + (month * 306 + 5) / 10 + (uint64_t) n[2] - 1 - 719468;

    row->created_us = ((days * 24 + (uint64_t) n[3]) * 60 + (uint64_t) n[4])
                        * 60 + (uint64_t) n[5];
    row->created_us = row->created_us * 1000000 + (uint64_t) n[6];

    return NGX_OK;
}


static u_char *
ngx_payment_row_text(ngx_str_t *to, u_char *p, char *from, size_t len)
{
    to->data = p;
    to->len = from ? len : 0;

    p = ngx_cpymem(p, from ? from : "", to->len);
    *p++ = '\0';

    return p;
}
