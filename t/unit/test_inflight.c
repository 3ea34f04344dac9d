/*
 * The table of events in flight and the ranges of ids: by example, and by
 * random traces against the slowest possible model.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* here, not linked: they are used by this program only */
#include "payment_inflight.c"
#include "payment_ranges.c"


#define IDS       400
#define PAYMENTS  40
#define CAPACITY  120


static uint64_t  seed;


static uint64_t
number(uint64_t n)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;

    return (seed >> 33) % n;
}


static payment_event_t *
ready(payment_inflight_t *t, uint64_t id, uint64_t payment)
{
    payment_event_t  *e;

    e = payment_inflight_add(t, id, PAYMENT_EVENT_READY);
    assert_non_null(e);
    e->payment = payment;
    payment_inflight_set_data(e, malloc(10), 10);

    return e;
}


static void
send(payment_event_t *e)
{
    payment_inflight_free_data(e);
    payment_inflight_occupy(e);
    payment_inflight_move(e, PAYMENT_EVENT_SENT);
}


/* later events of a payment wait, and come in order */

static void
test_one_of_a_payment(void **state)
{
    payment_event_t     *a, *b, *c, *other;
    payment_inflight_t   t;

    (void) state;

    assert_int_equal(payment_inflight_create(&t, 10, free), 0);

    a = ready(&t, 1, 7);
    other = ready(&t, 2, 8);
    b = ready(&t, 3, 7);
    c = ready(&t, 4, 7);

    assert_null(payment_inflight_occupant(a));
    send(a);

    assert_ptr_equal(payment_inflight_occupant(b), a);
    payment_inflight_queue(a, b);
    payment_inflight_queue(a, c);
    assert_null(payment_inflight_occupant(other));
    assert_int_equal(payment_inflight_count(&t, PAYMENT_EVENT_BEHIND), 2);

    assert_ptr_equal(payment_inflight_vacate(a), b);
    payment_inflight_move(a, PAYMENT_EVENT_ACKED);
    assert_int_equal(b->state, PAYMENT_EVENT_READY);
    assert_ptr_equal(payment_inflight_occupant(b), b);
    assert_ptr_equal(payment_inflight_occupant(c), b);

    /* sorted in, ahead of later ids */
    assert_ptr_equal(payment_inflight_first(&t, PAYMENT_EVENT_READY), other);

    send(b);
    assert_ptr_equal(payment_inflight_vacate(b), c);
    send(c);
    assert_null(payment_inflight_vacate(c));

    payment_inflight_remove(a);
    assert_null(payment_inflight_find(&t, 1));
    assert_int_equal(t.data_size, 10);

    payment_inflight_forget(&t);
    assert_int_equal(payment_inflight_room(&t), 10);
    assert_int_equal(t.data_size, 0);

    payment_inflight_destroy(&t);
}


static void
test_ready_is_sorted(void **state)
{
    uint64_t             last;
    unsigned             i;
    payment_event_t     *e;
    payment_inflight_t   t;

    static const uint64_t  ids[] = { 5, 9, 7, 1, 10, 8, 6, 3, 2, 4 };

    (void) state;

    assert_int_equal(payment_inflight_create(&t, 10, free), 0);

    for (i = 0; i < 10; i++) {
        (void) ready(&t, ids[i], i);
    }

    assert_null(payment_inflight_add(&t, 11, PAYMENT_EVENT_WANTED));

    last = 0;

    for (e = payment_inflight_first(&t, PAYMENT_EVENT_READY); e; e = e->next) {
        assert_int_equal(e->id, last + 1);
        last = e->id;
    }

    payment_inflight_destroy(&t);
}


/* memory comes as it is needed, a slab at a time, and never more than so many
 * events */

static void
test_it_grows(void **state)
{
    uint64_t             id;
    const size_t         capacity = 2 * PAYMENT_INFLIGHT_SLAB + 10;
    payment_inflight_t   t;

    (void) state;

    assert_int_equal(payment_inflight_create(&t, capacity, free), 0);
    assert_int_equal(t.nslabs, 0);

    for (id = 1; id <= capacity; id++) {
        assert_int_equal(payment_inflight_room(&t), capacity - id + 1);
        assert_non_null(payment_inflight_add(&t, id, PAYMENT_EVENT_WANTED));
        assert_int_equal(t.nslabs, (id - 1) / PAYMENT_INFLIGHT_SLAB + 1);
    }

    assert_int_equal(payment_inflight_room(&t), 0);
    assert_null(payment_inflight_add(&t, id, PAYMENT_EVENT_WANTED));
    assert_int_equal(payment_inflight_lowest(&t), 1);

    for (id = 1; id <= capacity; id++) {
        payment_inflight_remove(payment_inflight_find(&t, id));
    }

    assert_int_equal(payment_inflight_room(&t), capacity);
    assert_true(payment_inflight_lowest(&t) == UINT64_MAX);
    assert_int_equal(t.nslabs, 3);

    payment_inflight_destroy(&t);
}


/* what was sent stays known, and nobody waits behind it any more */

static void
test_forget_unsent(void **state)
{
    payment_event_t     *a, *b;
    payment_inflight_t   t;

    (void) state;

    assert_int_equal(payment_inflight_create(&t, 10, free), 0);

    a = ready(&t, 1, 7);
    b = ready(&t, 2, 7);
    send(a);
    payment_inflight_queue(a, b);
    (void) ready(&t, 3, 9);
    (void) payment_inflight_add(&t, 4, PAYMENT_EVENT_WANTED);

    payment_inflight_forget_unsent(&t);

    assert_non_null(payment_inflight_find(&t, 1));
    assert_null(payment_inflight_find(&t, 2));
    assert_null(payment_inflight_find(&t, 3));
    assert_null(payment_inflight_find(&t, 4));

    b = ready(&t, 2, 7);
    assert_ptr_equal(payment_inflight_occupant(b), a);
    assert_null(payment_inflight_vacate(a));
    assert_null(payment_inflight_occupant(b));

    payment_inflight_destroy(&t);
}


/*
 * The relay's moves at random.  The model: which ids are known, and which
 * payments are on their way.
 */

static void
test_random_traces(void **state)
{
    uint64_t             id, payment, version[PAYMENTS], acked[PAYMENTS];
    uint64_t             of[IDS], nth[IDS];
    unsigned             known[IDS], round, step, sent;
    payment_event_t     *e, *o;
    payment_inflight_t   t;

    (void) state;

    for (round = 0; round < 300; round++) {
        seed = round;
        assert_int_equal(payment_inflight_create(&t, CAPACITY, free), 0);
        memset(version, 0, sizeof(version));
        memset(acked, 0, sizeof(acked));
        memset(known, 0, sizeof(known));

        /* which payment an id belongs to, and the how-manieth event it is */
        for (id = 0; id < IDS; id++) {
            of[id] = number(PAYMENTS);
            nth[id] = ++version[of[id]];
        }

        for (step = 0; step < 2000; step++) {

            switch (number(8)) {

            case 0:
            case 1:                                      /* a row is read */
                for (id = 0; id < IDS; id++) {
                    if (!known[id]) {
                        break;
                    }
                }

                if (id == IDS || payment_inflight_room(&t) == 0) {
                    break;
                }

                assert_null(payment_inflight_find(&t, id));
                (void) ready(&t, id, of[id]);
                known[id] = 1;
                break;

            case 2:
            case 3:                                      /* handed out */
                e = payment_inflight_first(&t, PAYMENT_EVENT_READY);
                if (e == NULL) {
                    break;
                }

                o = payment_inflight_occupant(e);

                if (o && o != e) {
                    assert_int_equal(o->payment, e->payment);
                    assert_true(o->id < e->id);
                    payment_inflight_queue(o, e);
                    break;
                }

                /* all before it have arrived */
                assert_int_equal(acked[e->payment], nth[e->id] - 1);
                send(e);
                break;

            case 4:
            case 5:
            case 6:                                      /* a report */
                sent = (unsigned) payment_inflight_count(&t,
                                                         PAYMENT_EVENT_SENT);
                if (sent == 0) {
                    break;
                }

                e = payment_inflight_first(&t, PAYMENT_EVENT_SENT);

                for (sent = (unsigned) number(sent); sent; sent--) {
                    e = e->next;
                }

                acked[e->payment]++;
                o = payment_inflight_vacate(e);
                assert_true(o == NULL || o->payment == e->payment);
                payment_inflight_move(e, PAYMENT_EVENT_ACKED);

                if (number(4) == 0) {
                    payment_inflight_remove(e);
                }

                break;

            default:                                     /* a rewind */
                if (number(20)) {
                    break;
                }

                payment_inflight_forget_unsent(&t);

                for (id = 0; id < IDS; id++) {
                    e = payment_inflight_find(&t, id);
                    if (e == NULL && nth[id] > acked[of[id]]) {
                        known[id] = 0;
                    }
                }

                break;
            }

            for (payment = 0; payment < PAYMENTS; payment++) {
                sent = 0;

                for (e = payment_inflight_first(&t, PAYMENT_EVENT_SENT);
                     e;
                     e = e->next)
                {
                    sent += (e->payment == payment);
                }

                assert_true(sent <= 1);
            }
        }

        payment_inflight_destroy(&t);
    }
}


/* what a condition of ranges and singles selects */

static size_t
selected(const payment_ranges_t *r, char *rows)
{
    char         text[65536], *p;
    size_t       n;
    unsigned long long  a, b;

    n = 0;

    memcpy(text, r->ranges, r->ranges_len);
    text[r->ranges_len] = '\0';

    for (p = strstr(text, "id BETWEEN"); p; p = strstr(p + 1, "id BETWEEN")) {
        assert_int_equal(sscanf(p, "id BETWEEN %llu AND %llu", &a, &b), 2);
        assert_true(a < b);

        for ( /* void */ ; a <= b; a++) {
            assert_int_equal(rows[a]++, 0);
            n++;
        }
    }

    assert_int_equal(n, r->ranges_n);

    memcpy(text, r->singles, r->singles_len);
    text[r->singles_len] = '\0';

    for (p = strtok(text, ","); p; p = strtok(NULL, ",")) {
        assert_int_equal(rows[strtoull(p, NULL, 10)]++, 0);
        n++;
    }

    assert_int_equal(n, r->ranges_n + r->singles_n);

    return n;
}


static void
test_ranges(void **state)
{
    char               rows[4096], ranges[8192], singles[8192];
    size_t             n, covered, i;
    uint64_t           ids[4096], id;
    unsigned           round, density;
    payment_ranges_t   r;

    (void) state;

    for (round = 0; round < 2000; round++) {
        seed = round;
        density = (unsigned) number(100) + 1;
        n = 0;

        for (id = 0; id < 4096; id++) {
            if (number(100) < density || id % 512 > 400) {
                ids[n++] = id;
            }
        }

        covered = payment_ranges_write(&r, ids, n, ranges,
                                       number(sizeof(ranges)), singles,
                                       number(sizeof(singles)));

        memset(rows, 0, sizeof(rows));
        assert_true(covered <= n);
        assert_int_equal(selected(&r, rows), covered);

        for (i = 0; i < n; i++) {
            assert_int_equal(rows[ids[i]], i < covered);
        }

        if (covered < n) {
            continue;
        }

        /* a range ends beside a row that is ours */

        for (i = 0; i + 1 < n; i++) {
            if (ids[i] + 1 != ids[i + 1] && i > 0) {
                snprintf(rows, sizeof(rows), " AND %llu ",
                         (unsigned long long) ids[i]);
                ranges[r.ranges_len] = ' ';
                ranges[r.ranges_len + 1] = '\0';
                assert_null(strstr(ranges, rows));
                memset(rows, 0, 32);
            }
        }
    }
}


static void
test_ranges_as_text(void **state)
{
    char               ranges[256], singles[256];
    uint64_t           ids[21];
    unsigned           i;
    payment_ranges_t   r;

    (void) state;

    for (i = 0; i < 20; i++) {
        ids[i] = 100 + i;
    }

    ids[20] = UINT64_MAX;

    assert_int_equal(payment_ranges_write(&r, ids, 21, ranges, 256, singles,
                                          256), 21);
    assert_int_equal(r.ranges_len, strlen("id BETWEEN 100 AND 118"));
    assert_memory_equal(ranges, "id BETWEEN 100 AND 118", r.ranges_len);
    assert_int_equal(r.singles_len, strlen("119,18446744073709551615"));
    assert_memory_equal(singles, "119,18446744073709551615", r.singles_len);
}


static void
test_sort(void **state)
{
    uint64_t  ids[500];
    size_t    i;

    (void) state;

    seed = 1;

    for (i = 0; i < 500; i++) {
        ids[i] = number(1 << 30) * 500 + i;
    }

    payment_ranges_sort(ids, 500);

    for (i = 1; i < 500; i++) {
        assert_true(ids[i - 1] < ids[i]);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_one_of_a_payment),
        cmocka_unit_test(test_ready_is_sorted),
        cmocka_unit_test(test_it_grows),
        cmocka_unit_test(test_forget_unsent),
        cmocka_unit_test(test_random_traces),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_ranges_as_text),
        cmocka_unit_test(test_sort)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
