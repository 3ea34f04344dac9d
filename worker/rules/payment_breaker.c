/*
 * The circuit breaker's rules; see payment_breaker.h for what they are and
 * where they leave Resilience4j.
 *
 * Owner: the helper process; one thread.
 * Limits: constant time a call; a change of state clears the window.
 */

#include <assert.h>
#include <string.h>

#include "payment_breaker.h"


#define PAYMENT_BREAKER_CALL_FAILED  0x1
#define PAYMENT_BREAKER_CALL_SLOW    0x2

#define PAYMENT_BREAKER_STATE_BIT(state)  (1u << (state))


typedef struct {
    float  failure_rate;
    float  slow_call_rate;
} payment_breaker_rates_t;


static void payment_breaker_advance(payment_breaker_t *b, uint64_t now_ns);
static void payment_breaker_run_timer(payment_breaker_t *b);
static void payment_breaker_transition(payment_breaker_t *b,
    payment_breaker_state_e to);
static void payment_breaker_enter(payment_breaker_t *b,
    payment_breaker_state_e state);
static uint64_t payment_breaker_open_wait(payment_breaker_t *b);
static void payment_breaker_fresh_metrics(payment_breaker_t *b,
    payment_breaker_window_e type, uint32_t size);
static int payment_breaker_deny(payment_breaker_t *b);
static void payment_breaker_evaluate(payment_breaker_t *b,
    payment_breaker_rates_t rates, int presumed);
static void payment_breaker_publish_rate(payment_breaker_t *b,
    payment_breaker_event_e type, float rate);
static void payment_breaker_publish(payment_breaker_t *b,
    payment_breaker_event_t *event);
static void payment_breaker_time_call(payment_breaker_calls_t *calls,
    uint64_t now_ns, uint64_t duration_ns);
static uint64_t payment_breaker_peak(const payment_breaker_calls_t *calls,
    uint64_t now_ns);
static void payment_breaker_window_record(payment_breaker_window_t *w,
    uint64_t now_ns, unsigned flags);
static void payment_breaker_window_advance(payment_breaker_window_t *w,
    uint64_t now_ns);
static payment_breaker_rates_t payment_breaker_window_rates(
    const payment_breaker_window_t *w);
static payment_breaker_rates_t payment_breaker_window_presume(
    const payment_breaker_window_t *w, uint32_t slow, uint32_t failed);


const uint64_t  payment_breaker_bucket_ns[PAYMENT_BREAKER_BUCKETS - 1] = {
    1 * PAYMENT_BREAKER_MS_NS,
    2500000,
    5 * PAYMENT_BREAKER_MS_NS,
    10 * PAYMENT_BREAKER_MS_NS,
    25 * PAYMENT_BREAKER_MS_NS,
    50 * PAYMENT_BREAKER_MS_NS,
    100 * PAYMENT_BREAKER_MS_NS,
    250 * PAYMENT_BREAKER_MS_NS,
    500 * PAYMENT_BREAKER_MS_NS,
    1000 * PAYMENT_BREAKER_MS_NS,
    2500 * PAYMENT_BREAKER_MS_NS,
    5000 * PAYMENT_BREAKER_MS_NS,
    10000 * PAYMENT_BREAKER_MS_NS
};


/* the states that each state must not be forced into, as bits */

static const unsigned  payment_breaker_forbidden[PAYMENT_BREAKER_STATES] = {
    PAYMENT_BREAKER_STATE_BIT(PAYMENT_BREAKER_HALF_OPEN),      /* CLOSED */
    0,                                                         /* OPEN */
    0,                                                         /* HALF_OPEN */
    0,                                                         /* DISABLED */
    0,                                                       /* FORCED_OPEN */
    PAYMENT_BREAKER_STATE_BIT(PAYMENT_BREAKER_OPEN)          /* METRICS_ONLY */
    |PAYMENT_BREAKER_STATE_BIT(PAYMENT_BREAKER_HALF_OPEN)
};


static const char  *payment_breaker_state_names[PAYMENT_BREAKER_STATES] = {
    "CLOSED", "OPEN", "HALF_OPEN", "DISABLED", "FORCED_OPEN", "METRICS_ONLY"
};

static const char  *payment_breaker_state_labels[PAYMENT_BREAKER_STATES] = {
    "closed", "open", "half_open", "disabled", "forced_open", "metrics_only"
};

static const char  *payment_breaker_event_names[] = {
    "SUCCESS", "ERROR", "IGNORED_ERROR", "NOT_PERMITTED", "STATE_TRANSITION",
    "RESET", "FAILURE_RATE_EXCEEDED", "SLOW_CALL_RATE_EXCEEDED"
};


void
payment_breaker_conf_default(payment_breaker_conf_t *conf)
{
    memset(conf, 0, sizeof(payment_breaker_conf_t));

    conf->failure_rate_threshold = 50;
    conf->slow_call_rate_threshold = 50;
    conf->slow_call_duration_threshold_ns = 2 * PAYMENT_BREAKER_SECOND_NS;
    conf->sliding_window_type = PAYMENT_BREAKER_COUNT_BASED;
    conf->sliding_window_size = 100;
    conf->minimum_number_of_calls = 5;
    conf->permitted_calls_in_half_open_state = 3;
    conf->wait_duration_in_open_state_ns = 30 * PAYMENT_BREAKER_SECOND_NS;
    conf->max_wait_duration_in_half_open_state_ns = 0;
    conf->state_after_max_wait = PAYMENT_BREAKER_OPEN;
    conf->automatic_transition_to_half_open = 1;
}


const char *
payment_breaker_conf_check(const payment_breaker_conf_t *conf)
{
    uint64_t  ns;

    /* The comparison is written so that NaN fails it, too. */

    if (!(conf->failure_rate_threshold > 0
          && conf->failure_rate_threshold <= 100))
    {
        return "payment_breaker_failure_rate_threshold must be "
               "greater than 0 and at most 100";
    }

    if (!(conf->slow_call_rate_threshold > 0
          && conf->slow_call_rate_threshold <= 100))
    {
        return "payment_breaker_slow_call_rate_threshold must be "
               "greater than 0 and at most 100";
    }

    ns = conf->slow_call_duration_threshold_ns;

    if (ns < 1 || ns > PAYMENT_BREAKER_DURATION_NS_MAX) {
        return "payment_breaker_slow_call_duration_threshold must be "
               "greater than 0 and at most a year";
    }

    if (conf->sliding_window_type != PAYMENT_BREAKER_COUNT_BASED
        && conf->sliding_window_type != PAYMENT_BREAKER_TIME_BASED)
    {
        return "payment_breaker_sliding_window_type must be "
               "\"count\" or \"time\"";
    }

    if (conf->sliding_window_size < 1
        || conf->sliding_window_size > PAYMENT_BREAKER_WINDOW_MAX)
    {
        return "payment_breaker_sliding_window_size must be "
               "between 1 and 65536";
    }

    if (conf->minimum_number_of_calls < 1
        || conf->minimum_number_of_calls > PAYMENT_BREAKER_CALLS_MAX)
    {
        return "payment_breaker_minimum_number_of_calls must be "
               "between 1 and 1000000000";
    }

    if (conf->permitted_calls_in_half_open_state < 1
        || conf->permitted_calls_in_half_open_state
           > PAYMENT_BREAKER_PROBES_MAX)
    {
        return "payment_breaker_permitted_number_of_calls_in_half_open_state "
               "must be between 1 and 65536";
    }

    ns = conf->wait_duration_in_open_state_ns;

    if (ns < PAYMENT_BREAKER_MS_NS || ns > PAYMENT_BREAKER_DURATION_NS_MAX) {
        return "payment_breaker_wait_duration_in_open_state must be "
               "between 1ms and a year";
    }

    ns = conf->max_wait_duration_in_half_open_state_ns;

    if (ns != 0
        && (ns < PAYMENT_BREAKER_MS_NS
            || ns > PAYMENT_BREAKER_DURATION_NS_MAX))
    {
        return "payment_breaker_max_wait_duration_in_half_open_state must be "
               "0 or between 1ms and a year";
    }

    if (conf->state_after_max_wait != PAYMENT_BREAKER_OPEN
        && conf->state_after_max_wait != PAYMENT_BREAKER_CLOSED)
    {
        return "the state after "
               "payment_breaker_max_wait_duration_in_half_open_state "
               "must be open or closed";
    }

    return NULL;
}


size_t
payment_breaker_memory(const payment_breaker_conf_t *conf)
{
    size_t  window, probes;

    probes = conf->permitted_calls_in_half_open_state;
    window = conf->sliding_window_size;

    if (conf->sliding_window_type == PAYMENT_BREAKER_TIME_BASED) {
        window *= sizeof(payment_breaker_bucket_t);
    }

    return window > probes ? window : probes;
}


int
payment_breaker_init(payment_breaker_t *b, const payment_breaker_conf_t *conf,
    void *memory, size_t size, uint64_t now_ns)
{
    if (payment_breaker_conf_check(conf) != NULL
        || memory == NULL
        || size < payment_breaker_memory(conf))
    {
        return -1;
    }

    memset(b, 0, sizeof(payment_breaker_t));

    b->conf = *conf;
    b->now_ns = now_ns;
    b->window.ring.memory = memory;

    payment_breaker_enter(b, PAYMENT_BREAKER_CLOSED);

    return 0;
}


int
payment_breaker_acquire(payment_breaker_t *b, uint64_t now_ns,
    payment_breaker_token_t *token)
{
    payment_breaker_advance(b, now_ns);

    /*
     * The wait ends strictly after its last nanosecond.  With automatic
     * transition the timer has come first, at the last nanosecond itself.
     */

    if (b->state == PAYMENT_BREAKER_OPEN && b->now_ns > b->wait_until_ns) {
        payment_breaker_transition(b, PAYMENT_BREAKER_HALF_OPEN);
    }

    switch (b->state) {

    case PAYMENT_BREAKER_OPEN:
    case PAYMENT_BREAKER_FORCED_OPEN:
        return payment_breaker_deny(b);

    case PAYMENT_BREAKER_HALF_OPEN:

        if (b->permits == 0) {
            return payment_breaker_deny(b);
        }

        b->permits--;
        b->probes_out++;
        break;

    case PAYMENT_BREAKER_CLOSED:
    case PAYMENT_BREAKER_DISABLED:
    case PAYMENT_BREAKER_METRICS_ONLY:
        break;
    }

    *token = b->generation;

    return 1;
}


void
payment_breaker_on_result(payment_breaker_t *b, uint64_t now_ns,
    payment_breaker_token_t token, uint64_t duration_ns,
    payment_breaker_outcome_e outcome)
{
    unsigned                 flags;
    payment_breaker_event_t  event;

    payment_breaker_advance(b, now_ns);

    memset(&event, 0, sizeof(payment_breaker_event_t));
    event.duration_ns = duration_ns;
    flags = 0;

    switch (outcome) {

    case PAYMENT_BREAKER_IGNORED:
        payment_breaker_release(b, token);
        event.type = PAYMENT_BREAKER_EVENT_IGNORED_ERROR;
        payment_breaker_publish(b, &event);
        return;

    case PAYMENT_BREAKER_FAILURE:
        event.type = PAYMENT_BREAKER_EVENT_ERROR;
        flags = PAYMENT_BREAKER_CALL_FAILED;
        break;

    case PAYMENT_BREAKER_SUCCESS:
        event.type = PAYMENT_BREAKER_EVENT_SUCCESS;
        break;
    }

    payment_breaker_publish(b, &event);

    assert(token <= b->generation);

    if (token != b->generation) {
        return;
    }

    if (b->state == PAYMENT_BREAKER_HALF_OPEN) {
        assert(b->probes_out > 0);
        b->probes_out--;
    }

    if (duration_ns > b->conf.slow_call_duration_threshold_ns) {
        flags |= PAYMENT_BREAKER_CALL_SLOW;
    }

    payment_breaker_window_record(&b->window, b->now_ns, flags);
    payment_breaker_evaluate(b, payment_breaker_window_rates(&b->window), 0);
}


void
payment_breaker_presume(payment_breaker_t *b, uint64_t now_ns, uint32_t slow,
    uint32_t failed)
{
    payment_breaker_advance(b, now_ns);

    if (b->window.size == 0) {
        return;
    }

    payment_breaker_window_advance(&b->window, b->now_ns);

    payment_breaker_evaluate(b,
             payment_breaker_window_presume(&b->window, slow, failed), 1);
}


void
payment_breaker_release(payment_breaker_t *b, payment_breaker_token_t token)
{
    assert(token <= b->generation);

    if (token == b->generation && b->state == PAYMENT_BREAKER_HALF_OPEN) {
        assert(b->probes_out > 0);
        b->probes_out--;
        b->permits++;
    }
}


uint64_t
payment_breaker_tick(payment_breaker_t *b, uint64_t now_ns)
{
    payment_breaker_advance(b, now_ns);

    if (b->state == PAYMENT_BREAKER_OPEN
        && !b->conf.automatic_transition_to_half_open)
    {
        return PAYMENT_BREAKER_NEVER;
    }

    return b->wait_until_ns;
}


int
payment_breaker_force(payment_breaker_t *b, uint64_t now_ns,
    payment_breaker_state_e state)
{
    payment_breaker_advance(b, now_ns);

    if ((unsigned) state >= PAYMENT_BREAKER_STATES) {
        return -1;
    }

    if (payment_breaker_forbidden[b->state]
        & PAYMENT_BREAKER_STATE_BIT(state))
    {
        return -1;
    }

    payment_breaker_transition(b, state);

    return 0;
}


void
payment_breaker_reset(payment_breaker_t *b, uint64_t now_ns)
{
    payment_breaker_event_t  event;

    payment_breaker_advance(b, now_ns);

    /* every state may go to CLOSED */

    payment_breaker_transition(b, PAYMENT_BREAKER_CLOSED);

    memset(&event, 0, sizeof(payment_breaker_event_t));
    event.type = PAYMENT_BREAKER_EVENT_RESET;

    payment_breaker_publish(b, &event);
}


void
payment_breaker_snapshot(payment_breaker_t *b, uint64_t now_ns,
    payment_breaker_snapshot_t *s)
{
    unsigned                   i;
    payment_breaker_rates_t    rates;
    payment_breaker_window_t  *w;

    if (now_ns > b->now_ns) {
        b->now_ns = now_ns;
    }

    w = &b->window;

    payment_breaker_window_advance(w, b->now_ns);

    rates = payment_breaker_window_rates(w);

    memset(s, 0, sizeof(payment_breaker_snapshot_t));

    s->state = b->state;
    s->attempts = b->attempts;
    s->since_ns = b->since_ns;
    s->wait_until_ns = b->wait_until_ns;

    s->failure_rate = rates.failure_rate;
    s->slow_call_rate = rates.slow_call_rate;
    s->buffered = w->calls;
    s->successful = w->calls - w->failed;
    s->failed = w->failed;
    s->slow = w->slow;
    s->slow_successful = w->slow - w->slow_failed;
    s->slow_failed = w->slow_failed;
    s->not_permitted = b->not_permitted;

    s->permits = b->permits;
    s->probes_out = b->probes_out;

    s->not_permitted_total = b->not_permitted_total;

    for (i = 0; i < PAYMENT_BREAKER_OUTCOMES; i++) {
        s->calls[i].count = b->calls[i].count;
        s->calls[i].sum_ns = b->calls[i].sum_ns;
        s->calls[i].max_ns = payment_breaker_peak(&b->calls[i], b->now_ns);

        memcpy(s->calls[i].bucket, b->calls[i].bucket,
               sizeof(s->calls[i].bucket));
    }
}


const char *
payment_breaker_state_name(payment_breaker_state_e state)
{
    assert((unsigned) state < PAYMENT_BREAKER_STATES);

    return payment_breaker_state_names[state];
}


const char *
payment_breaker_state_label(payment_breaker_state_e state)
{
    assert((unsigned) state < PAYMENT_BREAKER_STATES);

    return payment_breaker_state_labels[state];
}


const char *
payment_breaker_event_name(payment_breaker_event_e event)
{
    assert((unsigned) event
           <= PAYMENT_BREAKER_EVENT_SLOW_CALL_RATE_EXCEEDED);

    return payment_breaker_event_names[event];
}


static void
payment_breaker_advance(payment_breaker_t *b, uint64_t now_ns)
{
    assert(!b->publishing);

    if (now_ns > b->now_ns) {
        b->now_ns = now_ns;
    }

    payment_breaker_run_timer(b);
}


/*
 * At most one transition: a state entered now waits at least 1 ms, also when
 * the process slept through several waits.
 */

static void
payment_breaker_run_timer(payment_breaker_t *b)
{
    if (b->now_ns < b->wait_until_ns) {
        return;
    }

    switch (b->state) {

    case PAYMENT_BREAKER_OPEN:

        if (b->conf.automatic_transition_to_half_open) {
            payment_breaker_transition(b, PAYMENT_BREAKER_HALF_OPEN);
        }

        break;

    case PAYMENT_BREAKER_HALF_OPEN:
        payment_breaker_transition(b, b->conf.state_after_max_wait);
        break;

    default:
        break;
    }
}


static void
payment_breaker_transition(payment_breaker_t *b, payment_breaker_state_e to)
{
    payment_breaker_state_e  from;
    payment_breaker_event_t  event;

    from = b->state;

    payment_breaker_enter(b, to);

    if (from == to) {
        return;
    }

    memset(&event, 0, sizeof(payment_breaker_event_t));
    event.type = PAYMENT_BREAKER_EVENT_STATE_TRANSITION;
    event.from = from;
    event.to = to;

    payment_breaker_publish(b, &event);
}


static void
payment_breaker_enter(payment_breaker_t *b, payment_breaker_state_e state)
{
    uint64_t                 ns;
    payment_breaker_conf_t  *conf;

    conf = &b->conf;

    b->state = state;
    b->since_ns = b->now_ns;
    b->wait_until_ns = PAYMENT_BREAKER_NEVER;
    b->permits = 0;
    b->probes_out = 0;
    b->failure_rate_exceeded = 0;
    b->slow_call_rate_exceeded = 0;

    switch (state) {

    case PAYMENT_BREAKER_CLOSED:
    case PAYMENT_BREAKER_METRICS_ONLY:
        b->attempts = 0;
        payment_breaker_fresh_metrics(b, conf->sliding_window_type,
                                      conf->sliding_window_size);
        break;

    case PAYMENT_BREAKER_OPEN:

        /* OPEN keeps the metrics that led to it: late results are recorded in
         * them, and they show why it opened. */

        b->attempts++;
        b->wait_until_ns = b->now_ns + payment_breaker_open_wait(b);
        break;

    case PAYMENT_BREAKER_HALF_OPEN:
        b->permits = conf->permitted_calls_in_half_open_state;
        payment_breaker_fresh_metrics(b, PAYMENT_BREAKER_COUNT_BASED,
                                      b->permits);

        ns = conf->max_wait_duration_in_half_open_state_ns;

        if (ns != 0) {
            b->wait_until_ns = b->now_ns + ns;
        }

        break;

    case PAYMENT_BREAKER_DISABLED:
        b->attempts = 0;
        payment_breaker_fresh_metrics(b, PAYMENT_BREAKER_COUNT_BASED, 0);
        break;

    case PAYMENT_BREAKER_FORCED_OPEN:
        b->attempts++;
        payment_breaker_fresh_metrics(b, PAYMENT_BREAKER_COUNT_BASED, 0);
        break;
    }
}


static uint64_t
payment_breaker_open_wait(payment_breaker_t *b)
{
    uint64_t  ns;

    if (b->conf.wait_interval == NULL) {
        return b->conf.wait_duration_in_open_state_ns;
    }

    ns = b->conf.wait_interval(b->conf.data, b->attempts);

    if (ns < PAYMENT_BREAKER_MS_NS) {
        return PAYMENT_BREAKER_MS_NS;
    }

    if (ns > PAYMENT_BREAKER_DURATION_NS_MAX) {
        return PAYMENT_BREAKER_DURATION_NS_MAX;
    }

    return ns;
}


static void
payment_breaker_fresh_metrics(payment_breaker_t *b,
    payment_breaker_window_e type, uint32_t size)
{
    void                      *memory;
    uint32_t                   minimum;
    payment_breaker_window_t  *w;

    b->generation++;
    b->not_permitted = 0;

    minimum = b->conf.minimum_number_of_calls;

    /* a window of calls can't hold more than its size, one of seconds can */

    if (type == PAYMENT_BREAKER_COUNT_BASED && minimum > size) {
        minimum = size;
    }

    w = &b->window;
    memory = w->ring.memory;

    memset(w, 0, sizeof(payment_breaker_window_t));

    w->type = type;
    w->size = size;
    w->minimum = minimum;
    w->ring.memory = memory;

    if (type == PAYMENT_BREAKER_TIME_BASED) {
        w->second = b->now_ns / PAYMENT_BREAKER_SECOND_NS;
        memset(memory, 0, size * sizeof(payment_breaker_bucket_t));
    }
}


static int
payment_breaker_deny(payment_breaker_t *b)
{
    payment_breaker_event_t  event;

    b->not_permitted++;

    memset(&event, 0, sizeof(payment_breaker_event_t));
    event.type = PAYMENT_BREAKER_EVENT_NOT_PERMITTED;

    payment_breaker_publish(b, &event);

    return 0;
}


/* Do the rates, recorded or presumed, ask for another state? */

static void
payment_breaker_evaluate(payment_breaker_t *b, payment_breaker_rates_t rates,
    int presumed)
{
    unsigned  failure, slow;

    if (rates.failure_rate < 0) {
        return;
    }

    failure = rates.failure_rate >= b->conf.failure_rate_threshold;
    slow = rates.slow_call_rate >= b->conf.slow_call_rate_threshold;

    switch (b->state) {

    case PAYMENT_BREAKER_CLOSED:
        if (failure) {
            payment_breaker_publish_rate(b,
                                  PAYMENT_BREAKER_EVENT_FAILURE_RATE_EXCEEDED,
                                  rates.failure_rate);
        }

        if (slow) {
            payment_breaker_publish_rate(b,
                                PAYMENT_BREAKER_EVENT_SLOW_CALL_RATE_EXCEEDED,
                                rates.slow_call_rate);
        }

        if (failure || slow) {
            payment_breaker_transition(b, PAYMENT_BREAKER_OPEN);
        }

        break;

    case PAYMENT_BREAKER_HALF_OPEN:
        if (failure || slow) {
            payment_breaker_transition(b, PAYMENT_BREAKER_OPEN);

        } else if (!presumed) {
            payment_breaker_transition(b, PAYMENT_BREAKER_CLOSED);
        }

        break;

    case PAYMENT_BREAKER_METRICS_ONLY:
        if (failure && !b->failure_rate_exceeded) {
            b->failure_rate_exceeded = 1;
            payment_breaker_publish_rate(b,
                                  PAYMENT_BREAKER_EVENT_FAILURE_RATE_EXCEEDED,
                                  rates.failure_rate);
        }

        if (slow && !b->slow_call_rate_exceeded) {
            b->slow_call_rate_exceeded = 1;
            payment_breaker_publish_rate(b,
                                PAYMENT_BREAKER_EVENT_SLOW_CALL_RATE_EXCEEDED,
                                rates.slow_call_rate);
        }

        break;

    case PAYMENT_BREAKER_OPEN:
    case PAYMENT_BREAKER_DISABLED:
    case PAYMENT_BREAKER_FORCED_OPEN:
        break;
    }
}


static void
payment_breaker_publish_rate(payment_breaker_t *b,
    payment_breaker_event_e type, float rate)
{
    payment_breaker_event_t  event;

    memset(&event, 0, sizeof(payment_breaker_event_t));
    event.type = type;
    event.rate = rate;

    payment_breaker_publish(b, &event);
}


/*
 * Whether an event is published depends on the state that the breaker is in
 * now.  The totals count published events only, as a metrics registry that
 * listens to Resilience4j does.
 */

static void
payment_breaker_publish(payment_breaker_t *b, payment_breaker_event_t *event)
{
    if (b->state == PAYMENT_BREAKER_DISABLED
        || b->state == PAYMENT_BREAKER_FORCED_OPEN)
    {
        if (event->type != PAYMENT_BREAKER_EVENT_STATE_TRANSITION
            && event->type != PAYMENT_BREAKER_EVENT_RESET)
        {
            return;
        }
    }

    switch (event->type) {

    case PAYMENT_BREAKER_EVENT_SUCCESS:
    case PAYMENT_BREAKER_EVENT_ERROR:
    case PAYMENT_BREAKER_EVENT_IGNORED_ERROR:

        /* these events are numbered as the outcomes are */

        payment_breaker_time_call(&b->calls[event->type], b->now_ns,
                                  event->duration_ns);
        break;

    case PAYMENT_BREAKER_EVENT_NOT_PERMITTED:
        b->not_permitted_total++;
        break;

    default:
        break;
    }

    if (b->conf.handler == NULL) {
        return;
    }

    event->now_ns = b->now_ns;

    b->publishing = 1;
    b->conf.handler(b->conf.data, event);
    b->publishing = 0;
}


static void
payment_breaker_time_call(payment_breaker_calls_t *calls, uint64_t now_ns,
    uint64_t duration_ns)
{
    uint64_t  period;
    unsigned  i;

    for (i = 0; i < PAYMENT_BREAKER_BUCKETS - 1; i++) {
        if (duration_ns <= payment_breaker_bucket_ns[i]) {
            break;
        }
    }

    calls->bucket[i]++;
    calls->count++;
    calls->sum_ns += duration_ns;

    period = now_ns / PAYMENT_BREAKER_PEAK_NS;
    i = (unsigned) (period % PAYMENT_BREAKER_PEAKS);

    if (calls->peak_period[i] != period) {
        calls->peak_period[i] = period;
        calls->peak_ns[i] = 0;
    }

    if (duration_ns > calls->peak_ns[i]) {
        calls->peak_ns[i] = duration_ns;
    }
}


static uint64_t
payment_breaker_peak(const payment_breaker_calls_t *calls, uint64_t now_ns)
{
    uint64_t  max, period;
    unsigned  i;

    max = 0;
    period = now_ns / PAYMENT_BREAKER_PEAK_NS;

    for (i = 0; i < PAYMENT_BREAKER_PEAKS; i++) {
        if (period - calls->peak_period[i] < PAYMENT_BREAKER_PEAKS
            && calls->peak_ns[i] > max)
        {
            max = calls->peak_ns[i];
        }
    }

    return max;
}


static void
payment_breaker_window_record(payment_breaker_window_t *w, uint64_t now_ns,
    unsigned flags)
{
    unsigned                   failed, slow, old;
    payment_breaker_bucket_t  *bucket;

    if (w->size == 0) {
        return;
    }

    failed = (flags & PAYMENT_BREAKER_CALL_FAILED) != 0;
    slow = (flags & PAYMENT_BREAKER_CALL_SLOW) != 0;

    if (w->type == PAYMENT_BREAKER_TIME_BASED) {
        payment_breaker_window_advance(w, now_ns);

        bucket = &w->ring.seconds[w->second % w->size];
        bucket->calls++;
        bucket->failed += failed;
        bucket->slow += slow;
        bucket->slow_failed += failed & slow;

    } else {

        if (w->calls == w->size) {
            old = w->ring.calls[w->head];
            w->calls--;
            w->failed -= (old & PAYMENT_BREAKER_CALL_FAILED) != 0;
            w->slow -= (old & PAYMENT_BREAKER_CALL_SLOW) != 0;
            w->slow_failed -= old == (PAYMENT_BREAKER_CALL_FAILED
                                      |PAYMENT_BREAKER_CALL_SLOW);
        }

        w->ring.calls[w->head] = (uint8_t) flags;
        w->head = (w->head + 1) % w->size;
    }

    w->calls++;
    w->failed += failed;
    w->slow += slow;
    w->slow_failed += failed & slow;

    assert(w->failed <= w->calls && w->slow <= w->calls);
    assert(w->slow_failed <= w->failed && w->slow_failed <= w->slow);
}


/* a window of seconds forgets the seconds that it has left behind */

static void
payment_breaker_window_advance(payment_breaker_window_t *w, uint64_t now_ns)
{
    uint64_t                   second, steps;
    payment_breaker_bucket_t  *bucket;

    if (w->type != PAYMENT_BREAKER_TIME_BASED) {
        return;
    }

    second = now_ns / PAYMENT_BREAKER_SECOND_NS;

    assert(second >= w->second);

    steps = second - w->second;

    if (steps > w->size) {
        steps = w->size;
    }

    w->second = second;

    /* The new seconds take the places of seconds that are out of the window. */

    while (steps > 0) {
        steps--;
        bucket = &w->ring.seconds[(second - steps) % w->size];

        w->calls -= bucket->calls;
        w->failed -= bucket->failed;
        w->slow -= bucket->slow;
        w->slow_failed -= bucket->slow_failed;

        memset(bucket, 0, sizeof(payment_breaker_bucket_t));
    }
}


/* The rate is a float, as upstream's, so that both round alike at the edge of
 * a threshold. */

static payment_breaker_rates_t
payment_breaker_window_rates(const payment_breaker_window_t *w)
{
    payment_breaker_rates_t  rates;

    if (w->calls == 0 || w->calls < w->minimum) {
        rates.failure_rate = -1;
        rates.slow_call_rate = -1;

        return rates;
    }

    rates.failure_rate = (float) w->failed * 100.0f / (float) w->calls;
    rates.slow_call_rate = (float) w->slow * 100.0f / (float) w->calls;

    return rates;
}


/* The rates of a window into which some more results have come, of which a
 * window of calls keeps the newest. */

static payment_breaker_rates_t
payment_breaker_window_presume(const payment_breaker_window_t *w,
    uint32_t slow, uint32_t failed)
{
    uint32_t                  i, n, kept;
    payment_breaker_window_t  then;

    then = *w;

    if (w->type == PAYMENT_BREAKER_COUNT_BASED) {

        slow = slow < w->size ? slow : w->size;
        failed = failed < w->size ? failed : w->size;
        n = slow > failed ? slow : failed;

        kept = w->size - n;
        kept = kept < w->calls ? kept : (uint32_t) w->calls;

        then.calls = kept;
        then.failed = 0;
        then.slow = 0;

        for (i = 1; i <= kept; i++) {
            n = w->ring.calls[(w->head + w->size - i) % w->size];
            then.failed += (n & PAYMENT_BREAKER_CALL_FAILED) != 0;
            then.slow += (n & PAYMENT_BREAKER_CALL_SLOW) != 0;
        }
    }

    then.calls += slow > failed ? slow : failed;
    then.failed += failed;
    then.slow += slow;

    return payment_breaker_window_rates(&then);
}
