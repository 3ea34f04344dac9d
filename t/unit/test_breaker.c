/*
 * The circuit breaker, rule by rule, with the reference service's settings
 * where a test does not say otherwise.  Random traces are compared with a
 * model in test_breaker_traces.py.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>

#include <cmocka.h>

#include "payment_breaker.h"


#define MS        PAYMENT_BREAKER_MS_NS
#define SECOND    PAYMENT_BREAKER_SECOND_NS
#define START     (1000 * SECOND)
#define LOG_MAX   256
#define FAST      (5 * MS)
#define SLOW      (2 * SECOND + 1)


typedef struct {
    payment_breaker_t        b;
    payment_breaker_conf_t   conf;
    void                    *memory;
    uint64_t                 now;
    payment_breaker_event_t  log[LOG_MAX];
    unsigned                 logged;
} fixture_t;


static void
fixture_handler(void *data, const payment_breaker_event_t *event)
{
    fixture_t  *f;

    f = data;
    f->log[f->logged++ % LOG_MAX] = *event;
}


static void
fixture_start(fixture_t *f)
{
    size_t  size;

    free(f->memory);

    size = payment_breaker_memory(&f->conf);
    f->memory = malloc(size);
    assert_non_null(f->memory);
    memset(f->memory, 0xa5, size);

    f->logged = 0;
    f->now = START;

    assert_int_equal(payment_breaker_init(&f->b, &f->conf, f->memory, size,
                                          f->now), 0);
}


static int
fixture_setup(void **state)
{
    fixture_t  *f;

    f = calloc(1, sizeof(fixture_t));
    if (f == NULL) {
        return -1;
    }

    payment_breaker_conf_default(&f->conf);
    f->conf.handler = fixture_handler;
    f->conf.data = f;

    fixture_start(f);

    *state = f;

    return 0;
}


static int
fixture_teardown(void **state)
{
    fixture_t  *f;

    f = *state;
    free(f->memory);
    free(f);

    return 0;
}


static payment_breaker_token_t
permitted(fixture_t *f)
{
    payment_breaker_token_t  token;

    assert_int_equal(payment_breaker_acquire(&f->b, f->now, &token), 1);

    return token;
}


static void
denied(fixture_t *f)
{
    payment_breaker_token_t  token;

    assert_int_equal(payment_breaker_acquire(&f->b, f->now, &token), 0);
}


static void
result(fixture_t *f, payment_breaker_token_t token,
    payment_breaker_outcome_e outcome, uint64_t duration)
{
    payment_breaker_on_result(&f->b, f->now, token, duration, outcome);
}


static void
calls(fixture_t *f, unsigned n, payment_breaker_outcome_e outcome,
    uint64_t duration)
{
    while (n-- > 0) {
        result(f, permitted(f), outcome, duration);
    }
}


static void
trip(fixture_t *f)
{
    calls(f, 5, PAYMENT_BREAKER_FAILURE, FAST);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_OPEN);
}


static void
trip_to_half_open(fixture_t *f)
{
    trip(f);
    f->now += 30 * SECOND;
    payment_breaker_tick(&f->b, f->now);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_HALF_OPEN);
}


static payment_breaker_snapshot_t
look(fixture_t *f)
{
    payment_breaker_snapshot_t  s;

    payment_breaker_snapshot(&f->b, f->now, &s);

    return s;
}


/* the logged-back-th event from the end */

static payment_breaker_event_t *
event(fixture_t *f, unsigned back)
{
    assert_true(f->logged > back);

    return &f->log[(f->logged - 1 - back) % LOG_MAX];
}


static void
assert_transition(payment_breaker_event_t *e, payment_breaker_state_e from,
    payment_breaker_state_e to)
{
    assert_int_equal(e->type, PAYMENT_BREAKER_EVENT_STATE_TRANSITION);
    assert_int_equal(e->from, from);
    assert_int_equal(e->to, to);
}


/* a duration of the slow-call threshold is not slow, one over it is */

/* calls that are slow, or fail, before their result has come */

static void
test_what_is_presumed_opens_and_is_not_recorded(void **state)
{
    fixture_t                  *f;
    unsigned                    i;
    payment_breaker_token_t     token[60];
    payment_breaker_snapshot_t  s;

    f = *state;

    for (i = 0; i < 60; i++) {
        token[i] = permitted(f);
        assert_true(payment_breaker_is_current(&f->b, token[i]));
    }

    /* below the minimum, and below the threshold, nothing follows */

    payment_breaker_presume(&f->b, f->now, 4, 4);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_CLOSED);

    calls(f, 61, PAYMENT_BREAKER_SUCCESS, FAST);
    payment_breaker_presume(&f->b, f->now, 60, 0);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_OPEN);

    assert_int_equal(event(f, 1)->type,
                     PAYMENT_BREAKER_EVENT_SLOW_CALL_RATE_EXCEEDED);

    /* the window keeps the newest hundred: 60 are slow, and 40 were fast */

    assert_float_equal(event(f, 1)->rate, 60.0, 0.01);

    s = look(f);
    assert_int_equal(s.slow, 0);
    assert_int_equal(s.buffered, 61);

    /* the results are what they are */

    f->now += 3 * SECOND;

    for (i = 0; i < 60; i++) {
        result(f, token[i], PAYMENT_BREAKER_FAILURE, SLOW);
    }

    s = look(f);
    assert_int_equal(s.buffered, 100);
    assert_int_equal(s.failed, 60);
    assert_int_equal(s.slow_failed, 60);
    assert_int_equal(s.calls[PAYMENT_BREAKER_SUCCESS].count, 61);
    assert_int_equal(s.calls[PAYMENT_BREAKER_FAILURE].count, 60);
    assert_float_equal(s.failure_rate, 60.0, 0.01);
}


static void
test_what_is_presumed_closes_nothing(void **state)
{
    fixture_t                *f;
    payment_breaker_token_t   token;

    f = *state;

    trip_to_half_open(f);
    token = permitted(f);
    assert_true(payment_breaker_is_current(&f->b, token));

    (void) permitted(f);
    (void) permitted(f);

    payment_breaker_presume(&f->b, f->now, 1, 0);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_HALF_OPEN);

    payment_breaker_presume(&f->b, f->now, 3, 3);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_OPEN);

    /* states without a window presume nothing */

    payment_breaker_force(&f->b, f->now, PAYMENT_BREAKER_DISABLED);
    assert_false(payment_breaker_is_current(&f->b, token));
    payment_breaker_presume(&f->b, f->now, 100, 100);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_DISABLED);
}


static void
test_what_is_presumed_in_a_window_of_seconds(void **state)
{
    fixture_t  *f;

    f = *state;

    f->conf.sliding_window_type = PAYMENT_BREAKER_TIME_BASED;
    f->conf.sliding_window_size = 10;
    fixture_start(f);

    calls(f, 10, PAYMENT_BREAKER_SUCCESS, FAST);
    payment_breaker_presume(&f->b, f->now, 0, 9);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_CLOSED);

    payment_breaker_presume(&f->b, f->now, 0, 10);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_OPEN);
}


static void
test_rates_are_undefined_below_the_minimum(void **state)
{
    fixture_t                   *f;
    payment_breaker_snapshot_t   s;

    f = *state;

    assert_true(look(f).failure_rate == -1);

    calls(f, 2, PAYMENT_BREAKER_FAILURE, FAST);
    calls(f, 2, PAYMENT_BREAKER_FAILURE, SLOW);

    s = look(f);
    assert_int_equal(s.state, PAYMENT_BREAKER_CLOSED);
    assert_true(s.failure_rate == -1);
    assert_true(s.slow_call_rate == -1);
    assert_int_equal(s.buffered, 4);
    assert_int_equal(s.failed, 4);
    assert_int_equal(s.slow, 2);
    assert_int_equal(s.slow_failed, 2);
    assert_int_equal(s.slow_successful, 0);

    calls(f, 1, PAYMENT_BREAKER_SUCCESS, 2 * SECOND);

    s = look(f);
    assert_int_equal(s.state, PAYMENT_BREAKER_OPEN);
    assert_true(s.failure_rate == 80);
    assert_true(s.slow_call_rate == 40);
    assert_int_equal(s.successful, 1);
}


static void
test_trips_at_the_threshold_not_above_it(void **state)
{
    fixture_t  *f;

    f = *state;

    calls(f, 3, PAYMENT_BREAKER_SUCCESS, FAST);
    calls(f, 2, PAYMENT_BREAKER_FAILURE, FAST);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_CLOSED);

    calls(f, 1, PAYMENT_BREAKER_FAILURE, FAST);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_OPEN);

    assert_int_equal(event(f, 2)->type, PAYMENT_BREAKER_EVENT_ERROR);
    assert_int_equal(event(f, 1)->type,
                     PAYMENT_BREAKER_EVENT_FAILURE_RATE_EXCEEDED);
    assert_true(event(f, 1)->rate == 50);
    assert_transition(event(f, 0), PAYMENT_BREAKER_CLOSED,
                      PAYMENT_BREAKER_OPEN);
}


static void
test_slow_successes_trip(void **state)
{
    fixture_t                   *f;
    payment_breaker_snapshot_t   s;

    f = *state;

    calls(f, 5, PAYMENT_BREAKER_SUCCESS, SLOW);

    s = look(f);
    assert_int_equal(s.state, PAYMENT_BREAKER_OPEN);
    assert_true(s.failure_rate == 0);
    assert_true(s.slow_call_rate == 100);
    assert_int_equal(s.slow_successful, 5);

    assert_int_equal(event(f, 1)->type,
                     PAYMENT_BREAKER_EVENT_SLOW_CALL_RATE_EXCEEDED);
}


static void
test_count_window_forgets_the_oldest(void **state)
{
    fixture_t                   *f;
    payment_breaker_snapshot_t   s;

    f = *state;

    calls(f, 60, PAYMENT_BREAKER_SUCCESS, FAST);
    calls(f, 49, PAYMENT_BREAKER_FAILURE, FAST);

    s = look(f);
    assert_int_equal(s.state, PAYMENT_BREAKER_CLOSED);
    assert_int_equal(s.buffered, 100);
    assert_int_equal(s.failed, 49);
    assert_true(s.failure_rate == 49);

    calls(f, 1, PAYMENT_BREAKER_FAILURE, FAST);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_OPEN);
}


static void
test_count_minimum_is_at_most_the_window(void **state)
{
    fixture_t  *f;

    f = *state;
    f->conf.sliding_window_size = 3;
    fixture_start(f);

    calls(f, 2, PAYMENT_BREAKER_FAILURE, FAST);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_CLOSED);

    calls(f, 1, PAYMENT_BREAKER_FAILURE, FAST);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_OPEN);
}


static void
test_time_minimum_is_not_capped(void **state)
{
    fixture_t  *f;

    f = *state;
    f->conf.sliding_window_type = PAYMENT_BREAKER_TIME_BASED;
    f->conf.sliding_window_size = 3;
    fixture_start(f);

    calls(f, 4, PAYMENT_BREAKER_FAILURE, FAST);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_CLOSED);

    calls(f, 1, PAYMENT_BREAKER_FAILURE, FAST);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_OPEN);
}


/* whole seconds leave the window, the present one counts as one of them */

static void
test_time_window_moves_by_seconds(void **state)
{
    fixture_t                   *f;
    payment_breaker_snapshot_t   s;

    f = *state;
    f->conf.sliding_window_type = PAYMENT_BREAKER_TIME_BASED;
    f->conf.sliding_window_size = 3;
    f->conf.minimum_number_of_calls = 100;
    fixture_start(f);

    f->now = START + SECOND - 1;
    calls(f, 1, PAYMENT_BREAKER_FAILURE, SLOW);

    f->now = START + SECOND;
    calls(f, 1, PAYMENT_BREAKER_SUCCESS, FAST);

    f->now = START + 3 * SECOND - 1;
    s = look(f);
    assert_int_equal(s.buffered, 2);
    assert_int_equal(s.slow_failed, 1);

    f->now = START + 3 * SECOND;
    s = look(f);
    assert_int_equal(s.buffered, 1);
    assert_int_equal(s.failed, 0);
    assert_int_equal(s.slow, 0);
    assert_int_equal(s.slow_failed, 0);

    f->now = START + 400 * SECOND;
    assert_int_equal(look(f).buffered, 0);

    calls(f, 7, PAYMENT_BREAKER_SUCCESS, FAST);
    assert_int_equal(look(f).buffered, 7);
}


static void
test_time_never_runs_back(void **state)
{
    fixture_t  *f;

    f = *state;
    f->conf.sliding_window_type = PAYMENT_BREAKER_TIME_BASED;
    f->conf.sliding_window_size = 10;
    fixture_start(f);

    f->now = START + 5 * SECOND;
    calls(f, 2, PAYMENT_BREAKER_SUCCESS, FAST);

    f->now = START;
    calls(f, 2, PAYMENT_BREAKER_SUCCESS, FAST);
    assert_int_equal(look(f).buffered, 4);
    assert_true(event(f, 0)->now_ns == START + 5 * SECOND);
}


static void
test_open_denies_until_strictly_after_the_wait(void **state)
{
    fixture_t                   *f;
    payment_breaker_snapshot_t   s;

    f = *state;
    f->conf.automatic_transition_to_half_open = 0;
    fixture_start(f);

    trip(f);
    assert_true(payment_breaker_tick(&f->b, f->now) == PAYMENT_BREAKER_NEVER);

    denied(f);
    assert_int_equal(event(f, 0)->type, PAYMENT_BREAKER_EVENT_NOT_PERMITTED);

    f->now = START + 30 * SECOND;
    denied(f);

    s = look(f);
    assert_int_equal(s.not_permitted, 2);
    assert_int_equal(s.not_permitted_total, 2);
    assert_int_equal(s.buffered, 5);

    f->now++;
    permitted(f);

    s = look(f);
    assert_int_equal(s.state, PAYMENT_BREAKER_HALF_OPEN);
    assert_int_equal(s.permits, 2);
    assert_int_equal(s.probes_out, 1);
    assert_int_equal(s.not_permitted, 0);
    assert_int_equal(s.not_permitted_total, 2);
}


static void
test_automatic_transition_at_the_end_of_the_wait(void **state)
{
    fixture_t  *f;

    f = *state;

    trip(f);
    assert_true(payment_breaker_tick(&f->b, f->now)
                == START + 30 * SECOND);

    f->now = START + 30 * SECOND - 1;
    assert_true(payment_breaker_tick(&f->b, f->now)
                == START + 30 * SECOND);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_OPEN);

    f->now++;
    assert_true(payment_breaker_tick(&f->b, f->now) == PAYMENT_BREAKER_NEVER);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_HALF_OPEN);
}


/* whether the timer or the request comes first makes no difference */

static void
test_a_due_timer_comes_before_the_request(void **state)
{
    fixture_t  *f;

    f = *state;

    trip(f);
    f->now += 30 * SECOND;
    permitted(f);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_HALF_OPEN);
}


static void
test_half_open_gives_its_permits_and_no_more(void **state)
{
    unsigned                     i;
    fixture_t                   *f;
    payment_breaker_token_t      token[3];
    payment_breaker_snapshot_t   s;

    f = *state;

    trip_to_half_open(f);

    for (i = 0; i < 3; i++) {
        token[i] = permitted(f);
    }

    denied(f);

    s = look(f);
    assert_int_equal(s.permits, 0);
    assert_int_equal(s.probes_out, 3);
    assert_int_equal(s.not_permitted, 1);

    /* one given back is one to take */

    payment_breaker_release(&f->b, token[1]);
    token[1] = permitted(f);
    denied(f);

    /* an ignored result gives its permit back too */

    result(f, token[1], PAYMENT_BREAKER_IGNORED, FAST);
    assert_int_equal(event(f, 0)->type, PAYMENT_BREAKER_EVENT_IGNORED_ERROR);
    token[1] = permitted(f);

    result(f, token[0], PAYMENT_BREAKER_SUCCESS, FAST);
    result(f, token[1], PAYMENT_BREAKER_SUCCESS, FAST);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_HALF_OPEN);

    result(f, token[2], PAYMENT_BREAKER_FAILURE, FAST);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_CLOSED);
    assert_int_equal(look(f).attempts, 0);
    assert_int_equal(look(f).buffered, 0);
}


static void
test_half_open_opens_again_without_an_exceeded_event(void **state)
{
    fixture_t  *f;

    f = *state;

    trip_to_half_open(f);
    calls(f, 1, PAYMENT_BREAKER_SUCCESS, FAST);
    calls(f, 1, PAYMENT_BREAKER_FAILURE, FAST);
    calls(f, 1, PAYMENT_BREAKER_SUCCESS, SLOW);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_CLOSED);

    trip_to_half_open(f);
    calls(f, 1, PAYMENT_BREAKER_SUCCESS, FAST);
    calls(f, 2, PAYMENT_BREAKER_FAILURE, FAST);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_OPEN);
    assert_int_equal(look(f).attempts, 2);
    assert_int_equal(look(f).buffered, 3);
    assert_int_equal(event(f, 1)->type, PAYMENT_BREAKER_EVENT_ERROR);
}


static void
test_half_open_may_decide_before_all_probes_are_back(void **state)
{
    fixture_t                *f;
    payment_breaker_token_t   late;

    f = *state;
    f->conf.minimum_number_of_calls = 2;
    fixture_start(f);

    calls(f, 2, PAYMENT_BREAKER_FAILURE, FAST);
    f->now += 31 * SECOND;

    late = permitted(f);
    calls(f, 2, PAYMENT_BREAKER_SUCCESS, FAST);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_CLOSED);

    result(f, late, PAYMENT_BREAKER_FAILURE, FAST);
    assert_int_equal(look(f).buffered, 0);
    assert_int_equal(event(f, 0)->type, PAYMENT_BREAKER_EVENT_ERROR);
}


static void
test_half_open_waits_for_ever_for_a_lost_probe(void **state)
{
    fixture_t  *f;

    f = *state;

    trip_to_half_open(f);
    permitted(f);
    permitted(f);
    permitted(f);

    f->now += PAYMENT_BREAKER_DURATION_NS_MAX;
    assert_true(payment_breaker_tick(&f->b, f->now) == PAYMENT_BREAKER_NEVER);
    denied(f);
}


static void
test_half_open_with_a_max_wait(void **state)
{
    fixture_t  *f;

    f = *state;
    f->conf.max_wait_duration_in_half_open_state_ns = 10 * SECOND;
    fixture_start(f);

    trip_to_half_open(f);
    calls(f, 2, PAYMENT_BREAKER_SUCCESS, FAST);
    permitted(f);

    assert_true(payment_breaker_tick(&f->b, f->now) == f->now + 10 * SECOND);

    f->now += 10 * SECOND;
    assert_true(payment_breaker_tick(&f->b, f->now) == f->now + 30 * SECOND);
    assert_transition(event(f, 0), PAYMENT_BREAKER_HALF_OPEN,
                      PAYMENT_BREAKER_OPEN);
    assert_int_equal(look(f).attempts, 2);

    f->conf.state_after_max_wait = PAYMENT_BREAKER_CLOSED;
    fixture_start(f);

    trip_to_half_open(f);
    f->now += 10 * SECOND;
    permitted(f);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_CLOSED);
}


/* a process that slept through many waits makes one step, not a chain */

static void
test_one_timed_transition_after_a_long_sleep(void **state)
{
    unsigned    logged;
    fixture_t  *f;

    f = *state;
    f->conf.max_wait_duration_in_half_open_state_ns = MS;
    f->conf.wait_duration_in_open_state_ns = MS;
    fixture_start(f);

    trip(f);
    logged = f->logged;

    f->now += 86400 * SECOND;
    assert_true(payment_breaker_tick(&f->b, f->now) == f->now + MS);
    assert_int_equal(f->logged, logged + 1);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_HALF_OPEN);
}


static void
test_late_results_of_closed(void **state)
{
    unsigned                     i;
    fixture_t                   *f;
    payment_breaker_token_t      late[4];
    payment_breaker_snapshot_t   s;

    f = *state;

    for (i = 0; i < 4; i++) {
        late[i] = permitted(f);
    }

    trip(f);

    /* OPEN keeps the metrics of CLOSED: recorded, without consequence */

    result(f, late[0], PAYMENT_BREAKER_SUCCESS, FAST);

    s = look(f);
    assert_int_equal(s.state, PAYMENT_BREAKER_OPEN);
    assert_int_equal(s.buffered, 6);
    assert_int_equal(s.successful, 1);

    /* HALF_OPEN has its own: neither recorded nor a permit for it */

    f->now += 30 * SECOND;
    result(f, late[1], PAYMENT_BREAKER_FAILURE, FAST);
    result(f, late[2], PAYMENT_BREAKER_IGNORED, FAST);
    payment_breaker_release(&f->b, late[3]);

    s = look(f);
    assert_int_equal(s.state, PAYMENT_BREAKER_HALF_OPEN);
    assert_int_equal(s.buffered, 0);
    assert_int_equal(s.permits, 3);
    assert_int_equal(s.calls[PAYMENT_BREAKER_FAILURE].count, 6);
    assert_int_equal(s.calls[PAYMENT_BREAKER_IGNORED].count, 1);
}


static void
test_late_probes_of_an_earlier_half_open(void **state)
{
    fixture_t                *f;
    payment_breaker_token_t   late[2];

    f = *state;
    f->conf.permitted_calls_in_half_open_state = 5;
    f->conf.minimum_number_of_calls = 2;
    fixture_start(f);

    calls(f, 2, PAYMENT_BREAKER_FAILURE, FAST);
    f->now += 30 * SECOND;

    late[0] = permitted(f);
    late[1] = permitted(f);
    calls(f, 2, PAYMENT_BREAKER_FAILURE, FAST);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_OPEN);
    assert_int_equal(look(f).buffered, 2);

    result(f, late[0], PAYMENT_BREAKER_FAILURE, FAST);
    assert_int_equal(look(f).buffered, 3);

    f->now += 30 * SECOND;
    payment_breaker_tick(&f->b, f->now);

    result(f, late[1], PAYMENT_BREAKER_FAILURE, FAST);
    assert_int_equal(look(f).buffered, 0);
    assert_int_equal(look(f).permits, 5);
    assert_int_equal(look(f).probes_out, 0);
}


static void
test_disabled_is_mute_and_open_to_all(void **state)
{
    unsigned                     logged;
    fixture_t                   *f;
    payment_breaker_snapshot_t   s;

    f = *state;

    assert_int_equal(payment_breaker_force(&f->b, f->now,
                                           PAYMENT_BREAKER_DISABLED), 0);
    logged = f->logged;

    calls(f, 50, PAYMENT_BREAKER_FAILURE, SLOW);

    s = look(f);
    assert_int_equal(s.state, PAYMENT_BREAKER_DISABLED);
    assert_int_equal(s.buffered, 0);
    assert_true(s.failure_rate == -1);
    assert_int_equal(s.calls[PAYMENT_BREAKER_FAILURE].count, 0);
    assert_int_equal(f->logged, logged);
}


static void
test_forced_open_denies_and_counts_silently(void **state)
{
    unsigned                     logged;
    fixture_t                   *f;
    payment_breaker_snapshot_t   s;

    f = *state;

    assert_int_equal(payment_breaker_force(&f->b, f->now,
                                           PAYMENT_BREAKER_FORCED_OPEN), 0);
    logged = f->logged;

    denied(f);
    f->now += PAYMENT_BREAKER_DURATION_NS_MAX;
    denied(f);
    assert_true(payment_breaker_tick(&f->b, f->now) == PAYMENT_BREAKER_NEVER);

    s = look(f);
    assert_int_equal(s.not_permitted, 2);
    assert_int_equal(s.not_permitted_total, 0);
    assert_int_equal(f->logged, logged);

    /* the way back is announced all the same */

    payment_breaker_reset(&f->b, f->now);
    assert_transition(event(f, 1), PAYMENT_BREAKER_FORCED_OPEN,
                      PAYMENT_BREAKER_CLOSED);
    assert_int_equal(event(f, 0)->type, PAYMENT_BREAKER_EVENT_RESET);
}


static void
test_a_late_result_finds_no_window(void **state)
{
    fixture_t                *f;
    payment_breaker_token_t   token;

    f = *state;

    payment_breaker_force(&f->b, f->now, PAYMENT_BREAKER_DISABLED);
    token = permitted(f);

    assert_int_equal(payment_breaker_force(&f->b, f->now,
                                           PAYMENT_BREAKER_OPEN), 0);
    result(f, token, PAYMENT_BREAKER_FAILURE, FAST);
    assert_int_equal(look(f).buffered, 0);
    assert_int_equal(event(f, 0)->type, PAYMENT_BREAKER_EVENT_ERROR);
}


static void
test_metrics_only_warns_once_of_each(void **state)
{
    unsigned    i, failure, slow;
    fixture_t  *f;

    f = *state;

    payment_breaker_force(&f->b, f->now, PAYMENT_BREAKER_METRICS_ONLY);

    calls(f, 10, PAYMENT_BREAKER_FAILURE, FAST);
    calls(f, 30, PAYMENT_BREAKER_FAILURE, SLOW);
    assert_int_equal(look(f).state, PAYMENT_BREAKER_METRICS_ONLY);
    assert_int_equal(look(f).buffered, 40);

    failure = 0;
    slow = 0;

    for (i = 0; i < f->logged; i++) {
        failure += f->log[i].type
                   == PAYMENT_BREAKER_EVENT_FAILURE_RATE_EXCEEDED;
        slow += f->log[i].type
                == PAYMENT_BREAKER_EVENT_SLOW_CALL_RATE_EXCEEDED;
    }

    assert_int_equal(failure, 1);
    assert_int_equal(slow, 1);

    /* entered anew, it warns anew */

    payment_breaker_force(&f->b, f->now, PAYMENT_BREAKER_METRICS_ONLY);
    calls(f, 5, PAYMENT_BREAKER_FAILURE, FAST);
    assert_int_equal(event(f, 0)->type,
                     PAYMENT_BREAKER_EVENT_FAILURE_RATE_EXCEEDED);
}


static void
test_forbidden_transitions_change_nothing(void **state)
{
    fixture_t          *f;
    payment_breaker_t   before;

    f = *state;

    before = f->b;
    assert_int_equal(payment_breaker_force(&f->b, f->now,
                                           PAYMENT_BREAKER_HALF_OPEN), -1);
    assert_int_equal(payment_breaker_force(&f->b, f->now,
                                        (payment_breaker_state_e) 6), -1);
    assert_memory_equal(&before, &f->b, sizeof(before));

    payment_breaker_force(&f->b, f->now, PAYMENT_BREAKER_METRICS_ONLY);

    before = f->b;
    assert_int_equal(payment_breaker_force(&f->b, f->now,
                                           PAYMENT_BREAKER_OPEN), -1);
    assert_int_equal(payment_breaker_force(&f->b, f->now,
                                           PAYMENT_BREAKER_HALF_OPEN), -1);
    assert_memory_equal(&before, &f->b, sizeof(before));
}


static void
test_same_state_is_a_silent_fresh_start(void **state)
{
    fixture_t  *f;

    f = *state;

    calls(f, 4, PAYMENT_BREAKER_FAILURE, FAST);
    assert_int_equal(payment_breaker_force(&f->b, f->now,
                                           PAYMENT_BREAKER_CLOSED), 0);
    assert_int_equal(look(f).buffered, 0);
    assert_int_equal(event(f, 0)->type, PAYMENT_BREAKER_EVENT_ERROR);

    trip(f);
    f->now += 20 * SECOND;
    assert_int_equal(payment_breaker_force(&f->b, f->now,
                                           PAYMENT_BREAKER_OPEN), 0);
    assert_int_equal(look(f).buffered, 5);
    assert_int_equal(look(f).attempts, 2);
    assert_true(payment_breaker_tick(&f->b, f->now) == f->now + 30 * SECOND);
}


static void
test_reset_keeps_what_is_for_life(void **state)
{
    fixture_t                   *f;
    payment_breaker_snapshot_t   s;

    f = *state;

    trip(f);
    denied(f);
    payment_breaker_reset(&f->b, f->now);

    s = look(f);
    assert_int_equal(s.state, PAYMENT_BREAKER_CLOSED);
    assert_int_equal(s.buffered, 0);
    assert_int_equal(s.not_permitted, 0);
    assert_int_equal(s.attempts, 0);
    assert_int_equal(s.not_permitted_total, 1);
    assert_int_equal(s.calls[PAYMENT_BREAKER_FAILURE].count, 5);

    payment_breaker_reset(&f->b, f->now);
    assert_int_equal(event(f, 0)->type, PAYMENT_BREAKER_EVENT_RESET);
    assert_int_equal(event(f, 1)->type, PAYMENT_BREAKER_EVENT_RESET);
}


/* upstream's timer of the first OPEN would end the second one early */

static void
test_reset_takes_the_timer_along(void **state)
{
    fixture_t  *f;

    f = *state;

    trip(f);
    f->now += 29 * SECOND;
    payment_breaker_reset(&f->b, f->now);
    trip(f);

    f->now += 2 * SECOND;
    payment_breaker_tick(&f->b, f->now);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_OPEN);
}


static uint64_t
doubling(void *data, uint32_t attempts)
{
    (void) data;

    return SECOND << (attempts - 1);
}


static uint64_t
nothing(void *data, uint32_t attempts)
{
    (void) data;
    (void) attempts;

    return 0;
}


static uint64_t
eternity(void *data, uint32_t attempts)
{
    (void) data;
    (void) attempts;

    return UINT64_MAX;
}


static void
test_wait_as_a_function_of_attempts(void **state)
{
    unsigned    i;
    fixture_t  *f;

    f = *state;
    f->conf.wait_interval = doubling;
    fixture_start(f);

    trip(f);

    for (i = 0; i < 5; i++) {
        assert_true(payment_breaker_tick(&f->b, f->now)
                    == f->now + (SECOND << i));
        f->now += SECOND << i;
        calls(f, 3, PAYMENT_BREAKER_FAILURE, FAST);
        assert_int_equal(f->b.state, PAYMENT_BREAKER_OPEN);
    }

    f->conf.wait_interval = nothing;
    fixture_start(f);
    trip(f);
    assert_true(payment_breaker_tick(&f->b, f->now) == f->now + MS);

    f->conf.wait_interval = eternity;
    fixture_start(f);
    trip(f);
    assert_true(payment_breaker_tick(&f->b, f->now)
                == f->now + PAYMENT_BREAKER_DURATION_NS_MAX);
}


static void
test_durations_by_kind(void **state)
{
    unsigned                          i;
    uint64_t                          sum;
    fixture_t                        *f;
    payment_breaker_snapshot_t        s;
    payment_breaker_calls_snapshot_t *c;

    f = *state;
    f->conf.slow_call_duration_threshold_ns = 3600 * SECOND;
    fixture_start(f);

    sum = 0;

    for (i = 0; i < PAYMENT_BREAKER_BUCKETS - 1; i++) {
        calls(f, 1, PAYMENT_BREAKER_SUCCESS, payment_breaker_bucket_ns[i]);
        calls(f, 1, PAYMENT_BREAKER_SUCCESS,
              payment_breaker_bucket_ns[i] + 1);
        sum += 2 * payment_breaker_bucket_ns[i] + 1;

        if (i > 0) {
            assert_true(payment_breaker_bucket_ns[i]
                        > payment_breaker_bucket_ns[i - 1]);
        }
    }

    s = look(f);
    c = &s.calls[PAYMENT_BREAKER_SUCCESS];
    assert_int_equal(c->count, 2 * PAYMENT_BREAKER_BUCKETS - 2);
    assert_true(c->sum_ns == sum);
    assert_true(c->max_ns == 10 * SECOND + 1);
    assert_int_equal(c->bucket[0], 1);
    assert_int_equal(c->bucket[PAYMENT_BREAKER_BUCKETS - 1], 1);

    for (i = 1; i < PAYMENT_BREAKER_BUCKETS - 1; i++) {
        assert_int_equal(c->bucket[i], 2);
    }

    assert_int_equal(s.calls[PAYMENT_BREAKER_FAILURE].count, 0);

    /* the maximum is of the last 40 to 60 seconds */

    f->now += 40 * SECOND;
    assert_true(look(f).calls[PAYMENT_BREAKER_SUCCESS].max_ns
                == 10 * SECOND + 1);

    calls(f, 1, PAYMENT_BREAKER_SUCCESS, FAST);
    f->now += 20 * SECOND;
    assert_true(look(f).calls[PAYMENT_BREAKER_SUCCESS].max_ns == FAST);

    f->now += 1000 * SECOND;
    assert_true(look(f).calls[PAYMENT_BREAKER_SUCCESS].max_ns == 0);
}


static void
test_largest_windows(void **state)
{
    unsigned    i;
    fixture_t  *f;

    f = *state;
    f->conf.sliding_window_size = PAYMENT_BREAKER_WINDOW_MAX;
    f->conf.permitted_calls_in_half_open_state = PAYMENT_BREAKER_PROBES_MAX;
    f->conf.minimum_number_of_calls = PAYMENT_BREAKER_WINDOW_MAX;
    f->conf.handler = NULL;
    fixture_start(f);

    calls(f, 2 * PAYMENT_BREAKER_WINDOW_MAX, PAYMENT_BREAKER_SUCCESS, FAST);
    calls(f, PAYMENT_BREAKER_WINDOW_MAX / 2 - 1, PAYMENT_BREAKER_FAILURE,
          FAST);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_CLOSED);
    calls(f, 1, PAYMENT_BREAKER_FAILURE, FAST);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_OPEN);

    f->now += 30 * SECOND;
    calls(f, PAYMENT_BREAKER_PROBES_MAX, PAYMENT_BREAKER_SUCCESS, FAST);
    assert_int_equal(f->b.state, PAYMENT_BREAKER_CLOSED);

    f->conf.sliding_window_type = PAYMENT_BREAKER_TIME_BASED;
    f->conf.minimum_number_of_calls = PAYMENT_BREAKER_CALLS_MAX;
    fixture_start(f);

    for (i = 0; i < PAYMENT_BREAKER_WINDOW_MAX + 1000; i++) {
        calls(f, 2, PAYMENT_BREAKER_SUCCESS, FAST);
        f->now += SECOND;
    }

    f->now -= SECOND;
    assert_int_equal(look(f).buffered, 2 * PAYMENT_BREAKER_WINDOW_MAX);
}


static void
test_init_refuses(void **state)
{
    size_t      size;
    fixture_t  *f;

    f = *state;
    size = payment_breaker_memory(&f->conf);

    assert_int_equal(payment_breaker_init(&f->b, &f->conf, f->memory,
                                          size - 1, 0), -1);
    assert_int_equal(payment_breaker_init(&f->b, &f->conf, NULL, size, 0),
                     -1);

    f->conf.sliding_window_size = 0;
    assert_int_equal(payment_breaker_init(&f->b, &f->conf, f->memory,
                                          size, 0), -1);
}


/* each bad value is refused by the name of its directive */

#define refused(member, value, name)                                          \
    do {                                                                      \
        payment_breaker_conf_t  conf;                                         \
        const char             *error;                                        \
                                                                              \
        payment_breaker_conf_default(&conf);                                  \
        assert_null(payment_breaker_conf_check(&conf));                       \
        conf.member = value;                                                  \
        error = payment_breaker_conf_check(&conf);                            \
        assert_non_null(error);                                               \
        assert_non_null(strstr(error, "payment_breaker_" name));              \
    } while (0)

#define accepted(member, value)                                               \
    do {                                                                      \
        payment_breaker_conf_t  conf;                                         \
                                                                              \
        payment_breaker_conf_default(&conf);                                  \
        conf.member = value;                                                  \
        assert_null(payment_breaker_conf_check(&conf));                       \
    } while (0)


static void
test_configuration(void **state)
{
    (void) state;

    refused(failure_rate_threshold, 0, "failure_rate_threshold");
    refused(failure_rate_threshold, -1, "failure_rate_threshold");
    refused(failure_rate_threshold, 100.5f, "failure_rate_threshold");
    refused(failure_rate_threshold, NAN, "failure_rate_threshold");
    accepted(failure_rate_threshold, 0.001f);
    accepted(failure_rate_threshold, 100);

    refused(slow_call_rate_threshold, 0, "slow_call_rate_threshold");
    refused(slow_call_rate_threshold, 101, "slow_call_rate_threshold");
    refused(slow_call_rate_threshold, NAN, "slow_call_rate_threshold");
    accepted(slow_call_rate_threshold, 100);

    refused(slow_call_duration_threshold_ns, 0,
            "slow_call_duration_threshold");
    refused(slow_call_duration_threshold_ns, UINT64_MAX,
            "slow_call_duration_threshold");
    accepted(slow_call_duration_threshold_ns, 1);

    refused(sliding_window_type, (payment_breaker_window_e) 2,
            "sliding_window_type");
    accepted(sliding_window_type, PAYMENT_BREAKER_TIME_BASED);

    refused(sliding_window_size, 0, "sliding_window_size");
    refused(sliding_window_size, PAYMENT_BREAKER_WINDOW_MAX + 1,
            "sliding_window_size");
    accepted(sliding_window_size, PAYMENT_BREAKER_WINDOW_MAX);

    refused(minimum_number_of_calls, 0, "minimum_number_of_calls");
    refused(minimum_number_of_calls, UINT32_MAX, "minimum_number_of_calls");

    refused(permitted_calls_in_half_open_state, 0,
            "permitted_number_of_calls_in_half_open_state");
    refused(permitted_calls_in_half_open_state,
            PAYMENT_BREAKER_PROBES_MAX + 1,
            "permitted_number_of_calls_in_half_open_state");

    refused(wait_duration_in_open_state_ns, MS - 1,
            "wait_duration_in_open_state");
    refused(wait_duration_in_open_state_ns,
            PAYMENT_BREAKER_DURATION_NS_MAX + 1,
            "wait_duration_in_open_state");
    accepted(wait_duration_in_open_state_ns, MS);

    refused(max_wait_duration_in_half_open_state_ns, MS - 1,
            "max_wait_duration_in_half_open_state");
    refused(max_wait_duration_in_half_open_state_ns, UINT64_MAX,
            "max_wait_duration_in_half_open_state");
    accepted(max_wait_duration_in_half_open_state_ns, 0);
    accepted(max_wait_duration_in_half_open_state_ns, MS);

    refused(state_after_max_wait, PAYMENT_BREAKER_HALF_OPEN,
            "max_wait_duration_in_half_open_state");
    accepted(state_after_max_wait, PAYMENT_BREAKER_CLOSED);
}


static void
test_names(void **state)
{
    (void) state;

    assert_string_equal(
        payment_breaker_state_name(PAYMENT_BREAKER_HALF_OPEN), "HALF_OPEN");
    assert_string_equal(
        payment_breaker_state_name(PAYMENT_BREAKER_METRICS_ONLY),
        "METRICS_ONLY");
    assert_string_equal(
        payment_breaker_state_label(PAYMENT_BREAKER_FORCED_OPEN),
        "forced_open");
    assert_string_equal(
        payment_breaker_event_name(PAYMENT_BREAKER_EVENT_SUCCESS), "SUCCESS");
    assert_string_equal(
        payment_breaker_event_name(
            PAYMENT_BREAKER_EVENT_SLOW_CALL_RATE_EXCEEDED),
        "SLOW_CALL_RATE_EXCEEDED");
}


#define unit(f)  cmocka_unit_test_setup_teardown(f, fixture_setup,            \
                                                 fixture_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        unit(test_what_is_presumed_opens_and_is_not_recorded),
        unit(test_what_is_presumed_closes_nothing),
        unit(test_what_is_presumed_in_a_window_of_seconds),
        unit(test_rates_are_undefined_below_the_minimum),
        unit(test_trips_at_the_threshold_not_above_it),
        unit(test_slow_successes_trip),
        unit(test_count_window_forgets_the_oldest),
        unit(test_count_minimum_is_at_most_the_window),
        unit(test_time_minimum_is_not_capped),
        unit(test_time_window_moves_by_seconds),
        unit(test_time_never_runs_back),
        unit(test_open_denies_until_strictly_after_the_wait),
        unit(test_automatic_transition_at_the_end_of_the_wait),
        unit(test_a_due_timer_comes_before_the_request),
        unit(test_half_open_gives_its_permits_and_no_more),
        unit(test_half_open_opens_again_without_an_exceeded_event),
        unit(test_half_open_may_decide_before_all_probes_are_back),
        unit(test_half_open_waits_for_ever_for_a_lost_probe),
        unit(test_half_open_with_a_max_wait),
        unit(test_one_timed_transition_after_a_long_sleep),
        unit(test_late_results_of_closed),
        unit(test_late_probes_of_an_earlier_half_open),
        unit(test_disabled_is_mute_and_open_to_all),
        unit(test_forced_open_denies_and_counts_silently),
        unit(test_a_late_result_finds_no_window),
        unit(test_metrics_only_warns_once_of_each),
        unit(test_forbidden_transitions_change_nothing),
        unit(test_same_state_is_a_silent_fresh_start),
        unit(test_reset_keeps_what_is_for_life),
        unit(test_reset_takes_the_timer_along),
        unit(test_wait_as_a_function_of_attempts),
        unit(test_durations_by_kind),
        unit(test_largest_windows),
        unit(test_init_refuses),
        unit(test_configuration),
        unit(test_names),
    };

    return cmocka_run_group_tests_name("breaker", tests, NULL, NULL);
}
