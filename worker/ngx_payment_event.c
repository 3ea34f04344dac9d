/*
 * A row of outbox_event, taken out of its result; see ngx_payment_event.h.
 */

#include "ngx_payment_event.h"


static ngx_int_t ngx_payment_event_time(ngx_payment_event_t *event,
    const char *text, size_t len);
static u_char *ngx_payment_event_text(ngx_str_t *to, u_char *p, char *from,
    size_t len);


ngx_payment_event_t *
ngx_payment_event_create(MYSQL_ROW row, unsigned long *lengths, ngx_log_t *log)
{
    size_t                size;
    u_char               *p;
    ngx_uint_t            i;
    ngx_payment_event_t  *event;

    size = sizeof(ngx_payment_event_t);

    for (i = 2; i < NGX_PAYMENT_EVENT_COLUMNS_N; i++) {
        size += lengths[i] + 1;
    }

    event = ngx_alloc(size, log);
    if (event == NULL) {
        return NULL;
    }

    event->size = size;
    event->id = ngx_payment_event_number(row[0]);
    event->version = (uint32_t) ngx_payment_event_number(row[1]);

    p = (u_char *) (event + 1);
    p = ngx_payment_event_text(&event->aggregatetype, p, row[2], lengths[2]);
    p = ngx_payment_event_text(&event->aggregateid, p, row[3], lengths[3]);
    p = ngx_payment_event_text(&event->type, p, row[4], lengths[4]);
    p = ngx_payment_event_text(&event->merchant, p, row[5], lengths[5]);
    p = ngx_payment_event_text(&event->traceparent, p, row[7], lengths[7]);
    (void) ngx_payment_event_text(&event->payload, p, row[8], lengths[8]);

    if (ngx_payment_event_time(event, row[6], lengths[6]) != NGX_OK) {
        ngx_log_error(NGX_LOG_ALERT, log, 0,
                      "payment outbox: event %uL has an unreadable time",
                      event->id);
        ngx_free(event);
        return NULL;
    }

    return event;
}


void
ngx_payment_event_free(void *event)
{
    ngx_free(event);
}


uint64_t
ngx_payment_event_number(const char *text)
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
ngx_payment_event_time(ngx_payment_event_t *event, const char *text, size_t len)
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

    if (text == NULL || len != NGX_PAYMENT_EVENT_TIME_LEN - 1) {
        return NGX_ERROR;
    }

    for (i = 0; i < 7; i++) {
        n[i] = ngx_atoi((u_char *) text + parts[i].at, parts[i].len);

        if (n[i] == NGX_ERROR) {
            return NGX_ERROR;
        }
    }

    ngx_memcpy(event->time, text, len);
    event->time[10] = 'T';
    event->time[len] = 'Z';

    /* days since 1970 of a proleptic Gregorian date, years from March on */

    month = (uint64_t) (n[1] + 9) % 12;
    year = (uint64_t) n[0] - (n[1] <= 2);
    days = 365 * year + year / 4 - year / 100 + year / 400
           + (month * 306 + 5) / 10 + (uint64_t) n[2] - 1 - 719468;

    event->created_us = ((days * 24 + (uint64_t) n[3]) * 60 + (uint64_t) n[4])
                        * 60 + (uint64_t) n[5];
    event->created_us = event->created_us * 1000000 + (uint64_t) n[6];

    return NGX_OK;
}


static u_char *
ngx_payment_event_text(ngx_str_t *to, u_char *p, char *from, size_t len)
{
    to->data = p;
    to->len = from ? len : 0;

    p = ngx_cpymem(p, from ? from : "", to->len);
    *p++ = '\0';

    return p;
}
