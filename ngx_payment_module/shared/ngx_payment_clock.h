/*
 * The clocks, read when asked: never the event loop's cached time.
 *
 * Any process.
 */

#ifndef NGX_PAYMENT_CLOCK_H
#define NGX_PAYMENT_CLOCK_H


#include <ngx_config.h>
#include <ngx_core.h>


/* microseconds since 1970 */

static ngx_inline uint64_t
ngx_payment_unix_us(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_REALTIME, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}


/* microseconds, monotonic: what durations are measured by */

static ngx_inline uint64_t
ngx_payment_now_us(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}


/* Monotonic, and going on while the machine sleeps: what a lease is measured
 * by. */

static ngx_inline uint64_t
ngx_payment_clock_ns(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_BOOTTIME, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}


static ngx_inline uint64_t
ngx_payment_clock_ms(void)
{
    return ngx_payment_clock_ns() / 1000000;
}


#endif /* NGX_PAYMENT_CLOCK_H */
