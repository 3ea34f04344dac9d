/*
 * Plays a trace of calls from stdin into the circuit breaker and prints what
 * it looks like after each step, for comparison with breaker_model.py.
 *
 * Limits: 4096 calls a trace, lines of 512 bytes.
 *
 *   config <fr> <sr> <slow_ns> count|time <size> <min> <permitted> <wait_ns>
 *          <max_wait_ns> <state> <automatic> <growth> <now_ns>
 *   acquire <now_ns> <call>
 *   result <now_ns> <call> success|failure|ignored <duration_ns>
 *   release <call>
 *   tick <now_ns>
 *   force <now_ns> <state>
 *   reset <now_ns>
 *   look <now_ns>
 *
 * A config line starts a new breaker.  A growth other than 0 sets a wait
 * function: wait / 1000 * growth ^ (attempts - 1).
 */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "payment_breaker.h"


#define CALLS_MAX   4096
#define LINE_MAX    512
#define EVENTS_MAX  2048


typedef struct {
    payment_breaker_t        breaker;
    void                    *memory;
    uint64_t                 now_ns;
    uint32_t                 growth;
    uint64_t                 wait_ns;
    payment_breaker_token_t  token[CALLS_MAX];
    unsigned char            permitted[CALLS_MAX];
    char                     events[EVENTS_MAX];
    size_t                   length;
} driver_t;


static void driver_config(driver_t *d, const char *line);
static void driver_step(driver_t *d, const char *line);
static void driver_print(driver_t *d, const char *answer, int histogram);
static void driver_handler(void *data, const payment_breaker_event_t *event);
static uint64_t driver_interval(void *data, uint32_t attempts);
static void driver_say(driver_t *d, const char *fmt, ...);
static void driver_die(const char *what, const char *line);


int
main(void)
{
    char      line[LINE_MAX];
    driver_t  d;

    memset(&d, 0, sizeof(driver_t));

    while (fgets(line, sizeof(line), stdin) != NULL) {

        if (line[0] == '#' || line[0] == '\n') {
            continue;
        }

        if (strncmp(line, "config ", 7) == 0) {
            driver_config(&d, line);

        } else if (d.memory == NULL) {
            driver_die("no config before", line);

        } else {
            driver_step(&d, line);
        }
    }

    free(d.memory);

    return 0;
}


static void
driver_config(driver_t *d, const char *line)
{
    int                      n;
    char                     type[8];
    size_t                   size;
    unsigned                 after;
    const char              *error;
    payment_breaker_conf_t   conf;

    memset(&conf, 0, sizeof(payment_breaker_conf_t));

    n = sscanf(line, "config %f %f %" SCNu64 " %7s %" SCNu32 " %" SCNu32
               " %" SCNu32 " %" SCNu64 " %" SCNu64 " %u %u %" SCNu32
               " %" SCNu64,
               &conf.failure_rate_threshold, &conf.slow_call_rate_threshold,
               &conf.slow_call_duration_threshold_ns, type,
               &conf.sliding_window_size, &conf.minimum_number_of_calls,
               &conf.permitted_calls_in_half_open_state,
               &conf.wait_duration_in_open_state_ns,
               &conf.max_wait_duration_in_half_open_state_ns, &after,
               &conf.automatic_transition_to_half_open, &d->growth,
               &d->now_ns);

    if (n != 13) {
        driver_die("bad config", line);
    }

    conf.sliding_window_type = strcmp(type, "time") == 0
                               ? PAYMENT_BREAKER_TIME_BASED
                               : PAYMENT_BREAKER_COUNT_BASED;
    conf.state_after_max_wait = (payment_breaker_state_e) after;
    conf.handler = driver_handler;
    conf.data = d;

    d->wait_ns = conf.wait_duration_in_open_state_ns;

    if (d->growth != 0) {
        conf.wait_interval = driver_interval;
    }

    error = payment_breaker_conf_check(&conf);

    if (error != NULL) {
        driver_die(error, line);
    }

    free(d->memory);

    size = payment_breaker_memory(&conf);
    d->memory = malloc(size);

    if (d->memory == NULL) {
        driver_die("no memory", line);
    }

    /* what a fresh window shows must not hang on clean memory */

    memset(d->memory, 0xa5, size);
    memset(d->permitted, 0, sizeof(d->permitted));
    d->length = 0;
    d->events[0] = '\0';

    if (payment_breaker_init(&d->breaker, &conf, d->memory, size, d->now_ns)
        != 0)
    {
        driver_die("init failed", line);
    }

    driver_print(d, "config", 1);
}


static void
driver_step(driver_t *d, const char *line)
{
    int                         histogram;
    char                        word[16], kind[16], answer[64];
    unsigned                    call, state;
    uint64_t                    now_ns, duration_ns;
    payment_breaker_t          *b;
    payment_breaker_outcome_e   outcome;

    b = &d->breaker;
    now_ns = d->now_ns;
    histogram = 0;

    if (sscanf(line, "%15s", word) != 1) {
        driver_die("bad line", line);
    }

    snprintf(answer, sizeof(answer), "%s", word);

    if (sscanf(line, "acquire %" SCNu64 " %u", &now_ns, &call) == 2
        && call < CALLS_MAX)
    {
        d->permitted[call] = payment_breaker_acquire(b, now_ns,
                                                     &d->token[call]);

        snprintf(answer, sizeof(answer), "acquire=%d", d->permitted[call]);

    } else if (sscanf(line, "result %" SCNu64 " %u %15s %" SCNu64, &now_ns,
                      &call, kind, &duration_ns) == 4
               && call < CALLS_MAX)
    {
        outcome = strcmp(kind, "success") == 0 ? PAYMENT_BREAKER_SUCCESS
                  : strcmp(kind, "failure") == 0 ? PAYMENT_BREAKER_FAILURE
                  : PAYMENT_BREAKER_IGNORED;

        if (d->permitted[call]) {
            d->permitted[call] = 0;
            payment_breaker_on_result(b, now_ns, d->token[call], duration_ns,
                                      outcome);
        }

    } else if (sscanf(line, "release %u", &call) == 1 && call < CALLS_MAX) {

        if (d->permitted[call]) {
            d->permitted[call] = 0;
            payment_breaker_release(b, d->token[call]);
        }

    } else if (sscanf(line, "tick %" SCNu64, &now_ns) == 1) {
        snprintf(answer, sizeof(answer), "tick=%" PRIu64,
                 payment_breaker_tick(b, now_ns));

    } else if (sscanf(line, "force %" SCNu64 " %u", &now_ns, &state) == 2) {
        snprintf(answer, sizeof(answer), "force=%d",
                 payment_breaker_force(b, now_ns,
                                       (payment_breaker_state_e) state));

    } else if (sscanf(line, "reset %" SCNu64, &now_ns) == 1) {
        payment_breaker_reset(b, now_ns);

    } else if (sscanf(line, "look %" SCNu64, &now_ns) == 1) {
        histogram = 1;

    } else {
        driver_die("bad line", line);
    }

    d->now_ns = now_ns;

    driver_print(d, answer, histogram);
}


static void
driver_print(driver_t *d, const char *answer, int histogram)
{
    unsigned                    i, n;
    payment_breaker_snapshot_t  s;

    payment_breaker_snapshot(&d->breaker, d->now_ns, &s);

    printf("%s %s attempts=%" PRIu32 " since=%" PRIu64 " until=%" PRIu64
           " rates=%.9g,%.9g calls=%" PRIu64 ",%" PRIu64 ",%" PRIu64
           ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 " denied=%" PRIu64 ",%" PRIu64
           " probes=%" PRIu32 ",%" PRIu32,
           answer, payment_breaker_state_name(s.state), s.attempts,
           s.since_ns, s.wait_until_ns, s.failure_rate, s.slow_call_rate,
           s.buffered, s.successful, s.failed, s.slow, s.slow_successful,
           s.slow_failed, s.not_permitted, s.not_permitted_total,
           s.permits, s.probes_out);

    for (i = 0; i < PAYMENT_BREAKER_OUTCOMES; i++) {
        printf(" %" PRIu64 "/%" PRIu64 "/%" PRIu64, s.calls[i].count,
               s.calls[i].sum_ns, s.calls[i].max_ns);

        for (n = 0; histogram && n < PAYMENT_BREAKER_BUCKETS; n++) {
            printf(",%" PRIu64, s.calls[i].bucket[n]);
        }
    }

    printf("%s\n", d->events);

    d->length = 0;
    d->events[0] = '\0';
}


static void
driver_handler(void *data, const payment_breaker_event_t *event)
{
    driver_t  *d;

    d = data;

    driver_say(d, " %s@%" PRIu64, payment_breaker_event_name(event->type),
               event->now_ns);

    switch (event->type) {

    case PAYMENT_BREAKER_EVENT_SUCCESS:
    case PAYMENT_BREAKER_EVENT_ERROR:
    case PAYMENT_BREAKER_EVENT_IGNORED_ERROR:
        driver_say(d, ":%" PRIu64, event->duration_ns);
        break;

    case PAYMENT_BREAKER_EVENT_STATE_TRANSITION:
        driver_say(d, ":%s:%s", payment_breaker_state_name(event->from),
                   payment_breaker_state_name(event->to));
        break;

    case PAYMENT_BREAKER_EVENT_FAILURE_RATE_EXCEEDED:
    case PAYMENT_BREAKER_EVENT_SLOW_CALL_RATE_EXCEEDED:
        driver_say(d, ":%.9g", event->rate);
        break;

    case PAYMENT_BREAKER_EVENT_NOT_PERMITTED:
    case PAYMENT_BREAKER_EVENT_RESET:
        break;
    }
}


static uint64_t
driver_interval(void *data, uint32_t attempts)
{
    driver_t  *d;
    uint64_t   ns;

    d = data;
    ns = d->wait_ns / 1000;

    while (--attempts > 0 && ns < PAYMENT_BREAKER_DURATION_NS_MAX) {
        ns *= d->growth;

        if (d->growth == 1) {
            break;
        }
    }

    return ns;
}


static void
driver_say(driver_t *d, const char *fmt, ...)
{
    int      n;
    va_list  args;

    va_start(args, fmt);
    n = vsnprintf(d->events + d->length, EVENTS_MAX - d->length, fmt, args);
    va_end(args);

    if (n < 0 || (size_t) n >= EVENTS_MAX - d->length) {
        driver_die("too many events", "");
    }

    d->length += (size_t) n;
}


static void
driver_die(const char *what, const char *line)
{
    fprintf(stderr, "breaker_driver: %s: %s\n", what, line);
    exit(2);
}
