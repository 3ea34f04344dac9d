/*
 * The circuit breaker's host; see ngx_payment_breaker.h.
 */

#include "ngx_payment_breaker.h"
#include "ngx_payment_clock.h"


static void ngx_payment_breaker_event(void *data,
    const payment_breaker_event_t *event);


ngx_int_t
ngx_payment_breaker_init(ngx_payment_breaker_t *b,
    ngx_payment_outbox_conf_t *conf, ngx_log_t *log)
{
    size_t                   size;
    uint64_t                 now;
    payment_breaker_conf_t   rules;
    payment_breaker_state_e  forced;

    b->log = log;
    b->stats = &conf->stats->helper;
    b->on = (conf->breaker_enable != 0);

    rules = conf->breaker;
    rules.handler = ngx_payment_breaker_event;
    rules.data = b;

    now = ngx_payment_clock_ns();
    size = payment_breaker_memory(&rules);
    b->memory = ngx_alloc(size, log);

    if (b->memory == NULL
        || payment_breaker_init(&b->rules, &rules, b->memory, size, now) != 0)
    {
        return NGX_ERROR;
    }

    /* What an operator forced outlives a helper, but not what was shown: a
     * breaker that is off is shown as DISABLED. */

    forced = (payment_breaker_state_e) b->stats->breaker_forced;

    if (b->on && forced != PAYMENT_BREAKER_CLOSED) {
        (void) payment_breaker_force(&b->rules, now, forced);
    }

    b->seen = b->rules.state;

    return NGX_OK;
}


ngx_uint_t
ngx_payment_breaker_permit(ngx_payment_breaker_t *b, uint64_t now_ns,
    payment_event_t *e)
{
    return !b->on || payment_breaker_acquire(&b->rules, now_ns, &e->token);
}


void
ngx_payment_breaker_unpermit(ngx_payment_breaker_t *b, payment_event_t *e)
{
    if (b->on) {
        payment_breaker_release(&b->rules, e->token);
    }
}


void
ngx_payment_breaker_result(ngx_payment_breaker_t *b, uint64_t now_ns,
    payment_event_t *e, uint64_t took_ns, payment_breaker_outcome_e outcome)
{
    uint64_t  slow_ns;

    if (!b->on) {
        return;
    }

    slow_ns = b->rules.conf.slow_call_duration_threshold_ns;

    if (e->first && took_ns <= 2 * slow_ns) {
        took_ns = ngx_min(took_ns, slow_ns);
    }

    payment_breaker_on_result(&b->rules, now_ns, e->token, took_ns, outcome);
}


void
ngx_payment_breaker_count(ngx_payment_breaker_t *b, uint64_t time_ns,
    payment_inflight_t *table, uint64_t vain_ns,
    ngx_payment_breaker_presumed_t *presumed)
{
    uint64_t          slow_ns, age;
    payment_event_t  *e;

    if (!b->on) {
        return;
    }

    slow_ns = b->rules.conf.slow_call_duration_threshold_ns;

    for (e = payment_inflight_first(table, PAYMENT_EVENT_SENT);
         e;
         e = e->next)
    {
        age = time_ns - e->since_ns;

        if (age <= slow_ns && age <= vain_ns) {
            break;
        }

        /* an event that waits for a topic to appear, or in a partition that is
         * sick alone, says nothing of Kafka */

        if (e->unproven || e->excused
            || !payment_breaker_is_current(&b->rules, e->token))
        {
            continue;
        }

        presumed->slow += (age > (e->first ? 2 * slow_ns : slow_ns));
        presumed->failed += (age > vain_ns);
    }
}


void
ngx_payment_breaker_presume(ngx_payment_breaker_t *b, uint64_t now_ns,
    ngx_payment_breaker_presumed_t *presumed)
{
    if (presumed->slow || presumed->failed) {
        payment_breaker_presume(&b->rules, now_ns, presumed->slow,
                                presumed->failed);
    }
}


ngx_uint_t
ngx_payment_breaker_probing(ngx_payment_breaker_t *b)
{
    return b->on && b->rules.state == PAYMENT_BREAKER_HALF_OPEN;
}


ngx_uint_t
ngx_payment_breaker_refuses(ngx_payment_breaker_t *b, uint64_t now_ns)
{
    return b->on
           && (b->rules.state == PAYMENT_BREAKER_FORCED_OPEN
               || (b->rules.state == PAYMENT_BREAKER_OPEN
                   && now_ns < b->rules.wait_until_ns));
}


ngx_uint_t
ngx_payment_breaker_opened(ngx_payment_breaker_t *b)
{
    payment_breaker_state_e  state;

    state = b->rules.state;

    if (state == b->seen) {
        return 0;
    }

    b->seen = state;

    return state == PAYMENT_BREAKER_OPEN
           || state == PAYMENT_BREAKER_FORCED_OPEN;
}


void
ngx_payment_breaker_tick(ngx_payment_breaker_t *b, uint64_t now_ns)
{
    if (b->on) {
        (void) payment_breaker_tick(&b->rules, now_ns);
    }
}


static void
ngx_payment_breaker_event(void *data,
    const payment_breaker_event_t *event)
{
    ngx_payment_breaker_t *b = data;

    ngx_uint_t                   level;
    ngx_payment_helper_stats_t  *helper;

    helper = b->stats;

    switch (event->type) {

    case PAYMENT_BREAKER_EVENT_SUCCESS:
        ngx_payment_histogram_add(&helper->calls_successful,
                                  event->duration_ns / 1000);
        break;

    case PAYMENT_BREAKER_EVENT_ERROR:
        ngx_payment_histogram_add(&helper->calls_failed,
                                  event->duration_ns / 1000);
        break;

    case PAYMENT_BREAKER_EVENT_IGNORED_ERROR:
        ngx_payment_histogram_add(&helper->calls_ignored,
                                  event->duration_ns / 1000);
        break;

    case PAYMENT_BREAKER_EVENT_NOT_PERMITTED:
        (void) ngx_atomic_fetch_add(&helper->breaker_not_permitted, 1);
        break;

    case PAYMENT_BREAKER_EVENT_STATE_TRANSITION:
        level = (event->to == PAYMENT_BREAKER_OPEN
                 || event->to == PAYMENT_BREAKER_FORCED_OPEN)
                ? NGX_LOG_WARN : NGX_LOG_NOTICE;

        ngx_log_error(level, b->log, 0,
                      "payment outbox: circuit breaker %s -> %s",
                      payment_breaker_state_name(event->from),
                      payment_breaker_state_name(event->to));

        (void) ngx_atomic_fetch_add(&helper->breaker_transitions, 1);
        break;

    case PAYMENT_BREAKER_EVENT_FAILURE_RATE_EXCEEDED:
    case PAYMENT_BREAKER_EVENT_SLOW_CALL_RATE_EXCEEDED:
        ngx_log_error(NGX_LOG_WARN, b->log, 0,
                      "payment outbox: circuit breaker: %s, %.1f %%",
                      payment_breaker_event_name(event->type),
                      (double) event->rate);
        break;

    default:
        break;
    }
}


void
ngx_payment_breaker_show(ngx_payment_breaker_t *b, uint64_t now_ns)
{
    ngx_uint_t                   i;
    payment_breaker_snapshot_t   s;
    ngx_payment_helper_stats_t  *helper;

    payment_breaker_snapshot(&b->rules, now_ns, &s);

    helper = b->stats;

    helper->breaker_state = b->on ? s.state : PAYMENT_BREAKER_DISABLED;
    helper->breaker_failure_rate = (ngx_atomic_uint_t)
                                       (ngx_int_t) (s.failure_rate * 100);
    helper->breaker_slow_rate = (ngx_atomic_uint_t)
                                    (ngx_int_t) (s.slow_call_rate * 100);
    helper->breaker_buffered = s.buffered;
    helper->breaker_failed = s.failed;
    helper->breaker_slow = s.slow;
    helper->breaker_slow_failed = s.slow_failed;

    for (i = 0; i < PAYMENT_BREAKER_OUTCOMES; i++) {
        helper->breaker_max_us[i] = s.calls[i].max_ns / 1000;
    }
}


ngx_int_t
ngx_payment_breaker_force(ngx_payment_breaker_t *b,
    payment_breaker_state_e state)
{
    if (!b->on) {
        return NGX_ERROR;
    }

    if (payment_breaker_force(&b->rules, ngx_payment_clock_ns(), state) != 0) {
        return NGX_ERROR;
    }

    b->stats->breaker_forced = state;

    return NGX_OK;
}


ngx_int_t
ngx_payment_breaker_reset(ngx_payment_breaker_t *b)
{
    if (!b->on) {
        return NGX_ERROR;
    }

    payment_breaker_reset(&b->rules, ngx_payment_clock_ns());
    b->stats->breaker_forced = PAYMENT_BREAKER_CLOSED;

    return NGX_OK;
}
