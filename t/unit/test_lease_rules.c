/*
 * The lease's rules one by one; how they stand up to a world of faults is in
 * test_lease_sim.c.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "payment_lease_rules.h"


#define START    UINT64_C(5000000)
#define ME       "80000000-0000-4000-8000-000000000000"
#define SMALLER  "70000000-0000-4000-8000-000000000000"
#define LARGER   "90000000-0000-4000-8000-000000000000"
#define THIRD    "a0000000-0000-4000-8000-000000000000"


typedef struct {
    payment_lease_conf_t   conf;
    payment_lease_node_t   node;
    payment_lease_t        lease;
    payment_lease_t        other;      /* another shard's, of the same node */
    uint64_t               now;
    uint64_t               until;
} fixture_t;


static fixture_t  f;


static int
fixture_setup(void **state)
{
    (void) state;

    memset(&f, 0, sizeof(fixture_t));

    f.conf.at_most_ms = 30000;
    f.conf.at_least_ms = 1000;
    f.now = START;

    payment_lease_node_init(&f.node, &f.conf, ME, 1);
    payment_lease_init(&f.lease, &f.node, f.now);
    payment_lease_init(&f.other, &f.node, f.now);

    return 0;
}


static payment_lease_action_e
next(void)
{
    return payment_lease_next(&f.lease, f.now, &f.until);
}


/* the one thing to do is that; waits for it when it is not due yet */

static void
expect(payment_lease_action_e action)
{
    payment_lease_action_e  given;

    given = next();

    if (given == PAYMENT_LEASE_WAIT) {
        assert_int_equal(f.lease.sent, PAYMENT_LEASE_WAIT);
        assert_true(f.until > f.now && f.until != PAYMENT_LEASE_NEVER);
        f.now = f.until;
        given = next();
    }

    assert_int_equal(given, action);
    assert_int_equal(f.lease.sent, action);
    assert_true(f.until == f.now + f.node.times.statement_ms);
}


static void
view(const char *first, uint64_t first_held, const char *second,
    uint64_t second_held)
{
    payment_lease_view_begin(&f.lease);
    payment_lease_view_node(&f.lease, ME, f.node.held);

    if (first) {
        payment_lease_view_node(&f.lease, first, first_held);
    }

    if (second) {
        payment_lease_view_node(&f.lease, second, second_held);
    }

    payment_lease_on_view(&f.lease, f.now, 1);
}


/* beats until it is time for something else */

static payment_lease_action_e
next_but_beats(const char *first, uint64_t first_held)
{
    unsigned                i;
    payment_lease_action_e  action;

    for (i = 0; i < 1000; i++) {
        action = next();

        if (action == PAYMENT_LEASE_BEAT) {
            f.now += 2;
            view(first, first_held, NULL, 0);
            continue;
        }

        if (action != PAYMENT_LEASE_WAIT) {
            return action;
        }

        f.now = f.until;
    }

    fail_msg("nothing but beats");

    return PAYMENT_LEASE_WAIT;
}


static void
acquire(uint64_t epoch)
{
    expect(PAYMENT_LEASE_BEAT);
    view(NULL, 0, NULL, 0);
    expect(PAYMENT_LEASE_ACQUIRE);
    f.now += 2;
    payment_lease_on_acquired(&f.lease, f.now, epoch);

    assert_int_equal(f.lease.state, PAYMENT_LEASE_HELD);
    assert_int_equal(f.lease.epoch, epoch);
    assert_int_equal(f.node.held, 1);
}


/* as if the node held so many more */

static void
hold_others(uint32_t n)
{
    f.node.held += n;
}


static void
test_configuration(void **state)
{
    payment_lease_conf_t  conf;

    (void) state;

    conf.at_most_ms = 30000;
    conf.at_least_ms = 1000;
    assert_null(payment_lease_conf_check(&conf));

    conf.at_least_ms = 30000;
    assert_null(payment_lease_conf_check(&conf));

    conf.at_least_ms = 30001;
    assert_non_null(strstr(payment_lease_conf_check(&conf),
                           "payment_outbox_lock_at_least_for"));

    conf.at_least_ms = 0;
    conf.at_most_ms = 1000;
    assert_null(payment_lease_conf_check(&conf));

    conf.at_most_ms = 999;
    assert_non_null(strstr(payment_lease_conf_check(&conf),
                           "payment_outbox_lock_at_most_for"));

    conf.at_most_ms = UINT64_MAX;
    assert_non_null(strstr(payment_lease_conf_check(&conf),
                           "payment_outbox_lock_at_most_for"));
}


/* for any lease: a failed EXTEND can be made good before production stops */

static void
test_times_fit_together(void **state)
{
    uint64_t               at_most;
    payment_lease_times_t  t;

    (void) state;

    for (at_most = PAYMENT_LEASE_AT_MOST_MS_MIN;
         at_most <= PAYMENT_LEASE_AT_MOST_MS_MAX;
         at_most = at_most + at_most / 7)
    {
        payment_lease_times(at_most, &t);

        assert_true(t.extend_ms == at_most / 3);
        assert_true(t.margin_ms >= 100);
        assert_true(t.beat_ms > t.retry_ms && t.alive_ms > 2 * t.beat_ms);
        assert_true(t.handicap_ms > t.interval_ms);
        assert_true(t.hand_over_ms > t.handicap_ms);

        /* behind a beat that hangs, then given up once, then answered */

        assert_true(t.extend_ms + 2 * t.statement_ms + t.retry_ms
                    < at_most - t.margin_ms);
    }
}


static void
test_produces_from_the_answer_to_a_margin_before_the_end(void **state)
{
    uint64_t  sent_at;

    (void) state;

    expect(PAYMENT_LEASE_BEAT);
    view(NULL, 0, NULL, 0);
    expect(PAYMENT_LEASE_ACQUIRE);
    assert_int_equal(f.lease.grace_ms, 0);
    sent_at = f.now;

    f.now += 700;
    assert_false(payment_lease_may_produce(&f.lease, f.now));
    assert_int_equal(payment_lease_remaining(&f.lease, f.now), 0);

    payment_lease_on_acquired(&f.lease, f.now, 7);
    assert_true(payment_lease_may_produce(&f.lease, f.now));

    /* counted from the sending, not from the answer */

    assert_int_equal(payment_lease_remaining(&f.lease, f.now),
                     30000 - 1000 - 700);
    assert_true(payment_lease_may_produce(&f.lease, sent_at + 28999));
    assert_false(payment_lease_may_produce(&f.lease, sent_at + 29000));
}


static void
test_extends_at_a_third(void **state)
{
    uint64_t  acquired_at;

    (void) state;

    acquire(7);
    acquired_at = f.lease.sent_at;

    assert_int_equal(next_but_beats(NULL, 0), PAYMENT_LEASE_EXTEND);
    assert_true(f.now == acquired_at + 10000);

    f.now += 300;
    payment_lease_on_extended(&f.lease, f.now);
    assert_int_equal(payment_lease_remaining(&f.lease, f.now),
                     30000 - 1000 - 300);
    assert_int_equal(f.lease.epoch, 7);

    /* atLeast never keeps it from going on */

    assert_int_equal(next_but_beats(NULL, 0), PAYMENT_LEASE_EXTEND);
    assert_true(f.now == acquired_at + 20000);
}


static void
test_one_statement_at_a_time(void **state)
{
    (void) state;

    expect(PAYMENT_LEASE_BEAT);
    f.now += 4999;
    assert_int_equal(next(), PAYMENT_LEASE_WAIT);
    assert_true(f.until == f.now + 1);

    f.now++;
    payment_lease_on_error(&f.lease, f.now);
    expect(PAYMENT_LEASE_ACQUIRE);
}


static void
test_a_failing_extension_is_tried_until_the_end_and_beyond(void **state)
{
    unsigned  tries;
    uint64_t  acquired_at;

    (void) state;

    acquire(7);
    acquired_at = f.lease.sent_at;

    for (tries = 0; f.now < acquired_at + 40000; tries++) {
        assert_int_equal(next_but_beats(NULL, 0), PAYMENT_LEASE_EXTEND);
        assert_int_equal(payment_lease_may_produce(&f.lease, f.now),
                         f.now < acquired_at + 29000);
        payment_lease_on_error(&f.lease, f.now);
    }

    assert_true(tries > 100 && tries < 300);
    assert_int_equal(f.lease.state, PAYMENT_LEASE_HELD);

    /* nobody took it meanwhile: it goes on where it was */

    assert_int_equal(next_but_beats(NULL, 0), PAYMENT_LEASE_EXTEND);
    payment_lease_on_extended(&f.lease, f.now);
    assert_true(payment_lease_may_produce(&f.lease, f.now));
    assert_int_equal(f.lease.epoch, 7);
}


static void
test_lost(void **state)
{
    (void) state;

    acquire(7);
    assert_int_equal(next_but_beats(NULL, 0), PAYMENT_LEASE_EXTEND);
    payment_lease_on_lost(&f.lease, f.now);

    assert_int_equal(f.lease.state, PAYMENT_LEASE_FREE);
    assert_false(payment_lease_may_produce(&f.lease, f.now));
    assert_int_equal(f.node.held, 0);
    assert_int_equal(f.lease.lost_total, 1);

    assert_int_equal(next_but_beats(NULL, 0), PAYMENT_LEASE_ACQUIRE);
    payment_lease_on_acquired(&f.lease, f.now, 9);
    assert_int_equal(f.lease.epoch, 9);
}


static void
test_fenced_while_an_extension_is_out(void **state)
{
    (void) state;

    acquire(7);
    assert_int_equal(next_but_beats(NULL, 0), PAYMENT_LEASE_EXTEND);

    payment_lease_on_fenced(&f.lease, f.now);
    assert_false(payment_lease_may_produce(&f.lease, f.now));
    assert_int_equal(next(), PAYMENT_LEASE_WAIT);

    payment_lease_on_extended(&f.lease, f.now);
    assert_false(payment_lease_may_produce(&f.lease, f.now));
    assert_int_equal(next(), PAYMENT_LEASE_ACQUIRE);

    payment_lease_on_refused(&f.lease, f.now);
    payment_lease_on_fenced(&f.lease, f.now);
    assert_int_equal(f.lease.lost_total, 1);
}


static void
test_asks_again_within_the_interval(void **state)
{
    unsigned  i;
    uint64_t  refused_at;

    (void) state;

    assert_int_equal(next_but_beats(NULL, 0), PAYMENT_LEASE_ACQUIRE);

    for (i = 0; i < 200; i++) {
        payment_lease_on_refused(&f.lease, f.now);
        refused_at = f.now;

        assert_int_equal(next_but_beats(NULL, 0), PAYMENT_LEASE_ACQUIRE);
        assert_in_range(f.now - refused_at, 187, 250);
    }
}


static void
test_gives_way_to_poorer_nodes(void **state)
{
    unsigned  i;
    char      uuid[PAYMENT_LEASE_UUID_LEN + 1];

    (void) state;

    hold_others(1);

    expect(PAYMENT_LEASE_BEAT);
    view(SMALLER, 0, LARGER, 1);
    expect(PAYMENT_LEASE_ACQUIRE);
    assert_int_equal(f.lease.grace_ms, 500);
    payment_lease_on_refused(&f.lease, f.now);

    /* an answer that is still out may be one more */

    f.now = f.lease.beat_at;
    expect(PAYMENT_LEASE_BEAT);
    view(SMALLER, 0, LARGER, 1);
    assert_int_equal(payment_lease_next(&f.other, f.now, &f.until),
                     PAYMENT_LEASE_BEAT);
    payment_lease_on_error(&f.other, f.now);
    assert_int_equal(payment_lease_next(&f.other, f.now, &f.until),
                     PAYMENT_LEASE_ACQUIRE);
    assert_int_equal(f.other.grace_ms, 0);
    expect(PAYMENT_LEASE_ACQUIRE);
    assert_int_equal(f.lease.grace_ms, 1000);
    payment_lease_on_refused(&f.lease, f.now);
    payment_lease_on_refused(&f.other, f.now);

    /* many are as four */

    f.now = f.lease.beat_at;
    expect(PAYMENT_LEASE_BEAT);
    payment_lease_view_begin(&f.lease);

    for (i = 0; i < 2 * PAYMENT_LEASE_NODES_MAX; i++) {
        snprintf(uuid, sizeof(uuid), "%08x-0000-4000-8000-000000000000", i);
        payment_lease_view_node(&f.lease, uuid, 0);
    }

    payment_lease_on_view(&f.lease, f.now, 1);
    assert_int_equal(f.lease.npeers, PAYMENT_LEASE_NODES_MAX);
    expect(PAYMENT_LEASE_ACQUIRE);
    assert_int_equal(f.lease.grace_ms, 2000);
    payment_lease_on_refused(&f.lease, f.now);

    /* an old view is none */

    f.lease.beat_at = f.now + 100000;
    f.now += 3001;
    expect(PAYMENT_LEASE_ACQUIRE);
    assert_int_equal(f.lease.grace_ms, 0);
}


/* two views in a row, the richest, two more than the poorest */

static void
test_hands_over_what_is_too_much(void **state)
{
    uint64_t  handed_at;

    (void) state;

    acquire(7);
    hold_others(1);
    f.now += 1000;

    expect(PAYMENT_LEASE_BEAT);
    view(LARGER, 0, NULL, 0);
    assert_int_equal(f.lease.state, PAYMENT_LEASE_HELD);

    expect(PAYMENT_LEASE_BEAT);
    view(LARGER, 0, NULL, 0);
    assert_int_equal(f.lease.state, PAYMENT_LEASE_DRAINING);
    assert_int_equal(f.node.held, 1);
    assert_false(payment_lease_may_produce(&f.lease, f.now));
    handed_at = f.now;

    /* nobody gets it before the last report */

    assert_int_equal(next_but_beats(LARGER, 0), PAYMENT_LEASE_EXTEND);
    payment_lease_on_extended(&f.lease, f.now);

    payment_lease_on_drained(&f.lease, f.now);
    expect(PAYMENT_LEASE_RELEASE);
    payment_lease_on_released(&f.lease, f.now);
    assert_int_equal(f.lease.state, PAYMENT_LEASE_FREE);
    assert_int_equal(f.lease.handed_over_total, 1);

    /* tells the others at once, and lets the poorer one go first */

    assert_int_equal(next(), PAYMENT_LEASE_BEAT);
    view(LARGER, 0, NULL, 0);
    expect(PAYMENT_LEASE_ACQUIRE);
    assert_int_equal(f.lease.grace_ms, 500);
    payment_lease_on_acquired(&f.lease, f.now, 8);

    /* not another one for a while */

    hold_others(5);
    f.now = handed_at + f.node.times.hand_over_ms - 1000;
    f.lease.extend_at = PAYMENT_LEASE_NEVER;
    f.lease.acquired_at = handed_at - 5000;

    while (f.lease.state == PAYMENT_LEASE_HELD) {
        expect(PAYMENT_LEASE_BEAT);
        view(LARGER, 0, NULL, 0);
        assert_true(f.now < handed_at + 20000);
    }

    assert_true(f.now >= handed_at + f.node.times.hand_over_ms);
}


/*
 * Who can't publish hands the lease over to any live node that can, in two
 * views, whoever has how many; and gives way to it afterwards.
 */

static void
test_hands_over_what_it_cannot_publish(void **state)
{
    (void) state;

    acquire(7);
    f.now += 1000;

    /* in vain, while no other can either */

    payment_lease_set_able(&f.lease, f.now, 0);
    assert_int_equal(payment_lease_told(&f.lease), 1 + PAYMENT_LEASE_UNABLE);

    assert_int_equal(next(), PAYMENT_LEASE_BEAT);
    view(LARGER, PAYMENT_LEASE_UNABLE, NULL, 0);
    expect(PAYMENT_LEASE_BEAT);
    view(LARGER, PAYMENT_LEASE_UNABLE, NULL, 0);
    assert_int_equal(f.lease.state, PAYMENT_LEASE_HELD);

    /* once another can, however many it has, and with no pause between two */

    f.node.hand_over_at = PAYMENT_LEASE_NEVER;
    f.lease.extend_at = PAYMENT_LEASE_NEVER;

    expect(PAYMENT_LEASE_BEAT);
    view(LARGER, PAYMENT_LEASE_UNABLE, SMALLER, 9);
    assert_int_equal(f.lease.state, PAYMENT_LEASE_HELD);
    expect(PAYMENT_LEASE_BEAT);
    view(LARGER, PAYMENT_LEASE_UNABLE, SMALLER, 9);
    assert_int_equal(f.lease.state, PAYMENT_LEASE_DRAINING);

    payment_lease_on_drained(&f.lease, f.now);
    assert_int_equal(next(), PAYMENT_LEASE_RELEASE);
    payment_lease_on_released(&f.lease, f.now);
    assert_int_equal(payment_lease_told(&f.lease), PAYMENT_LEASE_UNABLE);

    assert_int_equal(next(), PAYMENT_LEASE_BEAT);
    view(LARGER, PAYMENT_LEASE_UNABLE + 1, SMALLER, 9);
    expect(PAYMENT_LEASE_ACQUIRE);
    assert_int_equal(f.lease.grace_ms, f.node.times.handicap_ms);
}


/* Between those who can, one that can't is not there. */

static void
test_shares_without_the_unable(void **state)
{
    (void) state;

    acquire(7);
    hold_others(1);
    f.now += 1000;

    expect(PAYMENT_LEASE_BEAT);
    view(LARGER, 0, SMALLER, PAYMENT_LEASE_UNABLE);
    expect(PAYMENT_LEASE_BEAT);
    view(LARGER, 0, SMALLER, PAYMENT_LEASE_UNABLE);
    assert_int_equal(f.lease.state, PAYMENT_LEASE_DRAINING);
}


static void
assert_keeps(uint32_t others, const char *first, uint64_t first_held,
    const char *second, uint64_t second_held)
{
    unsigned  i;

    fixture_setup(NULL);
    acquire(7);
    hold_others(others);
    f.now += 1000;

    for (i = 0; i < 4; i++) {
        expect(PAYMENT_LEASE_BEAT);
        view(first, first_held, second, second_held);
    }

    assert_int_equal(f.lease.state, PAYMENT_LEASE_HELD);
}


static void
test_keeps_what_is_fair(void **state)
{
    unsigned  i;

    (void) state;

    assert_keeps(1, NULL, 0, NULL, 0);
    assert_keeps(0, LARGER, 0, THIRD, 0);
    assert_keeps(1, LARGER, 1, THIRD, 1);

    /* another one is richer, or as rich and first by name */

    assert_keeps(1, LARGER, 3, THIRD, 0);
    assert_keeps(1, SMALLER, 2, THIRD, 0);

    /* not twice in a row */

    fixture_setup(NULL);
    acquire(7);
    hold_others(1);
    f.now += 1000;

    for (i = 0; i < 8; i++) {
        expect(PAYMENT_LEASE_BEAT);
        view(LARGER, i % 2, NULL, 0);
    }

    assert_int_equal(f.lease.state, PAYMENT_LEASE_HELD);

    /* of two as rich, the first by name does it */

    fixture_setup(NULL);
    acquire(7);
    hold_others(1);
    f.now += 1000;

    for (i = 0; i < 2; i++) {
        expect(PAYMENT_LEASE_BEAT);
        view(LARGER, 2, THIRD, 0);
    }

    assert_int_equal(f.lease.state, PAYMENT_LEASE_DRAINING);
}


/* before atLeast a release would free it for nobody */

static void
test_keeps_it_for_at_least(void **state)
{
    (void) state;

    f.conf.at_least_ms = 5000;
    payment_lease_node_init(&f.node, &f.conf, ME, 1);

    acquire(7);
    hold_others(1);

    while (f.lease.state == PAYMENT_LEASE_HELD) {
        expect(PAYMENT_LEASE_BEAT);
        view(LARGER, 0, NULL, 0);
    }

    assert_in_range(f.now - f.lease.acquired_at, 5000, 7000);
}


static void
test_stop_drains_releases_leaves(void **state)
{
    (void) state;

    acquire(7);
    payment_lease_stop(&f.lease, f.now);
    assert_int_equal(f.lease.state, PAYMENT_LEASE_DRAINING);
    assert_false(payment_lease_may_produce(&f.lease, f.now));

    /* no more beats, but what we have is kept while it drains */

    expect(PAYMENT_LEASE_EXTEND);
    payment_lease_on_extended(&f.lease, f.now);

    payment_lease_on_drained(&f.lease, f.now);
    expect(PAYMENT_LEASE_RELEASE);
    payment_lease_on_error(&f.lease, f.now);
    expect(PAYMENT_LEASE_RELEASE);
    payment_lease_on_released(&f.lease, f.now);

    assert_false(payment_lease_gone(&f.lease));
    expect(PAYMENT_LEASE_LEAVE);
    payment_lease_on_done(&f.lease, f.now);
    assert_true(payment_lease_gone(&f.lease));

    assert_int_equal(next(), PAYMENT_LEASE_WAIT);
    assert_true(f.until == PAYMENT_LEASE_NEVER);

    /* and back */

    payment_lease_start(&f.lease, f.now);
    assert_false(payment_lease_gone(&f.lease));
    acquire(8);
}


static void
test_stop_without_a_lease(void **state)
{
    (void) state;

    /* nothing was ever sent: nothing to undo */

    payment_lease_stop(&f.lease, f.now);
    assert_true(payment_lease_gone(&f.lease));

    payment_lease_start(&f.lease, f.now);
    expect(PAYMENT_LEASE_BEAT);
    payment_lease_stop(&f.lease, f.now);
    assert_false(payment_lease_gone(&f.lease));
    payment_lease_on_error(&f.lease, f.now);

    /* the row may be there; a shutdown doesn't hang on it */

    expect(PAYMENT_LEASE_LEAVE);
    payment_lease_on_error(&f.lease, f.now);
    assert_true(payment_lease_gone(&f.lease));
}


static void
test_acquired_after_the_stop(void **state)
{
    (void) state;

    expect(PAYMENT_LEASE_BEAT);
    view(NULL, 0, NULL, 0);
    expect(PAYMENT_LEASE_ACQUIRE);
    payment_lease_stop(&f.lease, f.now);
    payment_lease_on_acquired(&f.lease, f.now, 7);

    assert_false(payment_lease_may_produce(&f.lease, f.now));
    assert_int_equal(f.node.held, 0);
    expect(PAYMENT_LEASE_RELEASE);
    payment_lease_on_released(&f.lease, f.now);
    expect(PAYMENT_LEASE_LEAVE);
}


static void
test_a_deleted_row_is_put_back_as_nobodys(void **state)
{
    (void) state;

    acquire(7);
    expect(PAYMENT_LEASE_BEAT);
    payment_lease_view_begin(&f.lease);
    payment_lease_on_view(&f.lease, f.now, 0);

    assert_int_equal(f.lease.state, PAYMENT_LEASE_FREE);
    assert_false(payment_lease_may_produce(&f.lease, f.now));

    expect(PAYMENT_LEASE_INSERT);
    payment_lease_on_done(&f.lease, f.now);
    assert_int_equal(next_but_beats(NULL, 0), PAYMENT_LEASE_ACQUIRE);
}


/* answers to what was not asked are no answers */

static void
test_stray_answers(void **state)
{
    (void) state;

    payment_lease_on_acquired(&f.lease, f.now, 7);
    payment_lease_on_extended(&f.lease, f.now);
    payment_lease_on_lost(&f.lease, f.now);
    payment_lease_on_released(&f.lease, f.now);
    payment_lease_on_done(&f.lease, f.now);
    payment_lease_on_drained(&f.lease, f.now);
    payment_lease_on_view(&f.lease, f.now, 1);
    payment_lease_on_error(&f.lease, f.now);

    assert_int_equal(f.lease.state, PAYMENT_LEASE_FREE);
    assert_int_equal(f.node.held, 0);
    assert_int_equal(f.node.acquiring, 0);

    payment_lease_view_begin(&f.lease);
    payment_lease_view_node(&f.lease, "", 1);
    payment_lease_view_node(&f.lease, "x" LARGER, 1);
    assert_int_equal(f.lease.npeers, 0);
}


#define unit(t)  cmocka_unit_test_setup(t, fixture_setup)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        unit(test_configuration),
        unit(test_times_fit_together),
        unit(test_produces_from_the_answer_to_a_margin_before_the_end),
        unit(test_extends_at_a_third),
        unit(test_one_statement_at_a_time),
        unit(test_a_failing_extension_is_tried_until_the_end_and_beyond),
        unit(test_lost),
        unit(test_fenced_while_an_extension_is_out),
        unit(test_asks_again_within_the_interval),
        unit(test_gives_way_to_poorer_nodes),
        unit(test_hands_over_what_is_too_much),
        unit(test_hands_over_what_it_cannot_publish),
        unit(test_shares_without_the_unable),
        unit(test_keeps_what_is_fair),
        unit(test_keeps_it_for_at_least),
        unit(test_stop_drains_releases_leaves),
        unit(test_stop_without_a_lease),
        unit(test_acquired_after_the_stop),
        unit(test_a_deleted_row_is_put_back_as_nobodys),
        unit(test_stray_answers),
    };

    return cmocka_run_group_tests_name("lease_rules", tests, NULL, NULL);
}
