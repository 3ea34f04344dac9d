/*
 * The circuit breaker in front of Kafka, with Resilience4j's rules: from the
 * delivery reports of the events before, it says whether the next one may be
 * handed to the producer.  Pure: no clock, no I/O, no lock, no global.
 *
 * Owner: the helper process; one thread.
 * Limits: a window of 65536 calls or seconds, 65536 probes, durations of a
 * year; no allocation after payment_breaker_init().
 *
 * A life of a call: payment_breaker_acquire() gives a token; the token comes
 * back exactly once, in payment_breaker_on_result() or, when the call was not
 * made after all, in payment_breaker_release().
 *
 * Time is monotonic nanoseconds, passed in by the caller.  A time before one
 * already seen counts as the latest one seen.  Every call that is told the
 * time (but a snapshot) first makes the timed transition that is due by then,
 * so the outcome does not depend on how promptly a timer fired.
 *
 * Where we leave Resilience4j on purpose:
 *
 * - A result belongs to the metrics that were current when its call was
 *   permitted.  Upstream records a late result in whatever state it meets, so
 *   that the calls of CLOSED can decide HALF_OPEN.  Here it is published and
 *   timed, but not recorded.  OPEN keeps the metrics of the state before, so
 *   late results of that state are recorded there, as upstream does.
 * - A permit can be given back only to the HALF_OPEN that granted it.
 * - A call that is slow already is known to be slow before its result comes,
 *   and so is one that fails because nobody can be reached.  Upstream waits for
 *   the result; here payment_breaker_presume() opens the breaker as if it had
 *   come.  The result itself is recorded, published and timed once, as what it
 *   was.
 * - A timer dies with its state.  Upstream's reset() leaves the timer of OPEN
 *   running, which can cut short a later OPEN.
 * - DISABLED and FORCED_OPEN have no window, also when OPEN follows them.
 *   Upstream divides by zero when a result comes in there.
 */

#ifndef PAYMENT_BREAKER_H_INCLUDED
#define PAYMENT_BREAKER_H_INCLUDED


#include <stddef.h>
#include <stdint.h>


#define PAYMENT_BREAKER_WINDOW_MAX       65536
#define PAYMENT_BREAKER_PROBES_MAX       65536
#define PAYMENT_BREAKER_CALLS_MAX        1000000000
#define PAYMENT_BREAKER_MS_NS            UINT64_C(1000000)
#define PAYMENT_BREAKER_SECOND_NS        UINT64_C(1000000000)
#define PAYMENT_BREAKER_DURATION_NS_MAX  (365 * 86400                         \
                                          * PAYMENT_BREAKER_SECOND_NS)
#define PAYMENT_BREAKER_NEVER            UINT64_MAX

/* of the histogram of durations; the last bucket has no upper bound */
#define PAYMENT_BREAKER_BUCKETS          14

/* The largest duration is kept for each of three periods of 20 seconds, the
 * current one included: so it is that of the last 40 to 60 seconds. */
#define PAYMENT_BREAKER_PEAKS            3
#define PAYMENT_BREAKER_PEAK_NS          (20 * PAYMENT_BREAKER_SECOND_NS)


/* the numbers are those of Resilience4j's state gauge */

typedef enum {
    PAYMENT_BREAKER_CLOSED = 0,
    PAYMENT_BREAKER_OPEN = 1,
    PAYMENT_BREAKER_HALF_OPEN = 2,
    PAYMENT_BREAKER_DISABLED = 3,
    PAYMENT_BREAKER_FORCED_OPEN = 4,
    PAYMENT_BREAKER_METRICS_ONLY = 5
} payment_breaker_state_e;

#define PAYMENT_BREAKER_STATES           6


typedef enum {
    PAYMENT_BREAKER_COUNT_BASED = 0,
    PAYMENT_BREAKER_TIME_BASED = 1
} payment_breaker_window_e;


typedef enum {
    PAYMENT_BREAKER_SUCCESS = 0,
    PAYMENT_BREAKER_FAILURE = 1,
    PAYMENT_BREAKER_IGNORED = 2
} payment_breaker_outcome_e;

#define PAYMENT_BREAKER_OUTCOMES         3


/* The first three have the numbers of the outcomes that they publish. */

typedef enum {
    PAYMENT_BREAKER_EVENT_SUCCESS = 0,
    PAYMENT_BREAKER_EVENT_ERROR = 1,
    PAYMENT_BREAKER_EVENT_IGNORED_ERROR = 2,
    PAYMENT_BREAKER_EVENT_NOT_PERMITTED,
    PAYMENT_BREAKER_EVENT_STATE_TRANSITION,
    PAYMENT_BREAKER_EVENT_RESET,
    PAYMENT_BREAKER_EVENT_FAILURE_RATE_EXCEEDED,
    PAYMENT_BREAKER_EVENT_SLOW_CALL_RATE_EXCEEDED
} payment_breaker_event_e;


typedef struct {
    payment_breaker_event_e   type;
    uint64_t                  now_ns;
    uint64_t                  duration_ns;  /* SUCCESS, ERROR, IGNORED_ERROR */
    float                     rate;         /* *_EXCEEDED, in percent */
    payment_breaker_state_e   from;         /* STATE_TRANSITION */
    payment_breaker_state_e   to;           /* STATE_TRANSITION */
} payment_breaker_event_t;


/* The handler must not call the breaker back. */

typedef void (*payment_breaker_handler_pt)(void *data,
    const payment_breaker_event_t *event);

/* How long an OPEN lasts: the attempts-th since the breaker was last CLOSED.
 * A result below 1 ms counts as 1 ms, one above a year as a year. */

typedef uint64_t (*payment_breaker_interval_pt)(void *data, uint32_t attempts);


typedef struct {
    float                        failure_rate_threshold;    /* percent */
    float                        slow_call_rate_threshold;  /* percent */
    uint64_t                     slow_call_duration_threshold_ns;
    payment_breaker_window_e     sliding_window_type;
    uint32_t                     sliding_window_size;  /* calls or seconds */
    uint32_t                     minimum_number_of_calls;
    uint32_t                     permitted_calls_in_half_open_state;
    uint64_t                     wait_duration_in_open_state_ns;
    uint64_t                     max_wait_duration_in_half_open_state_ns;
    payment_breaker_state_e      state_after_max_wait;  /* OPEN or CLOSED */
    unsigned                     automatic_transition_to_half_open;

    payment_breaker_interval_pt  wait_interval;  /* NULL: constant */
    payment_breaker_handler_pt   handler;        /* NULL: nobody listens */
    void                        *data;           /* for both */
} payment_breaker_conf_t;


typedef uint64_t  payment_breaker_token_t;


/* what was recorded in one second of a TIME_BASED window */

typedef struct {
    uint32_t                  calls;
    uint32_t                  failed;
    uint32_t                  slow;
    uint32_t                  slow_failed;
} payment_breaker_bucket_t;


typedef struct {
    payment_breaker_window_e  type;
    uint32_t                  size;
    uint32_t                  minimum;
    uint32_t                  head;         /* where the next call goes */
    uint64_t                  second;       /* TIME_BASED: the latest */

    /* sums of what is in the window; slow_failed <= failed, slow <= calls */
    uint64_t                  calls;
    uint64_t                  failed;
    uint64_t                  slow;
    uint64_t                  slow_failed;

    union {
        uint8_t                   *calls;    /* COUNT_BASED: flags of each */
        payment_breaker_bucket_t  *seconds;  /* TIME_BASED */
        void                      *memory;
    } ring;
} payment_breaker_window_t;


typedef struct {
    uint64_t                  count;
    uint64_t                  sum_ns;
    uint64_t                  bucket[PAYMENT_BREAKER_BUCKETS];
    uint64_t                  peak_ns[PAYMENT_BREAKER_PEAKS];
    uint64_t                  peak_period[PAYMENT_BREAKER_PEAKS];
} payment_breaker_calls_t;


typedef struct {
    payment_breaker_conf_t    conf;
    payment_breaker_state_e   state;
    uint32_t                  attempts;      /* OPENs since the last CLOSED */
    uint64_t                  now_ns;        /* the latest time seen */
    uint64_t                  since_ns;      /* when the state was entered */
    uint64_t                  wait_until_ns; /* OPEN, HALF_OPEN: end of wait */

    /* Rises whenever the metrics begin anew.  A token is the generation in
     * which its call was permitted, so a late result is told apart. */
    uint64_t                  generation;
    payment_breaker_window_t  window;
    uint64_t                  not_permitted;

    /* HALF_OPEN: permits + probes out + calls in the window == permitted */
    uint32_t                  permits;
    uint32_t                  probes_out;

    /* METRICS_ONLY: the threshold is exceeded, and the event was published */
    unsigned                  failure_rate_exceeded:1;
    unsigned                  slow_call_rate_exceeded:1;

    unsigned                  publishing:1;  /* the handler is called */

    /* Since payment_breaker_init(), and never set back: what a registry of
     * metrics would have counted from Resilience4j's events. */
    uint64_t                  not_permitted_total;
    payment_breaker_calls_t   calls[PAYMENT_BREAKER_OUTCOMES];
} payment_breaker_t;


typedef struct {
    uint64_t                  count;
    uint64_t                  sum_ns;
    uint64_t                  max_ns;        /* of the last 40 to 60 s */
    uint64_t                  bucket[PAYMENT_BREAKER_BUCKETS];
} payment_breaker_calls_snapshot_t;


/* plain data: may be copied into shared memory */

typedef struct {
    payment_breaker_state_e   state;
    uint32_t                  attempts;
    uint64_t                  since_ns;
    uint64_t                  wait_until_ns; /* or PAYMENT_BREAKER_NEVER */

    /* of the current metrics; a rate is -1 below the minimum of calls */
    float                     failure_rate;
    float                     slow_call_rate;
    uint64_t                  buffered;
    uint64_t                  successful;
    uint64_t                  failed;
    uint64_t                  slow;
    uint64_t                  slow_successful;
    uint64_t                  slow_failed;
    uint64_t                  not_permitted;

    uint32_t                  permits;       /* HALF_OPEN: probes to give */
    uint32_t                  probes_out;    /* HALF_OPEN: not yet back */

    /*
     * Since payment_breaker_init(), counted where Resilience4j publishes an
     * event: calls in DISABLED and FORCED_OPEN are not among them.
     */
    uint64_t                  not_permitted_total;
    payment_breaker_calls_snapshot_t  calls[PAYMENT_BREAKER_OUTCOMES];
} payment_breaker_snapshot_t;


/* upper bounds of the histogram's buckets but the last, in ns, rising */

extern const uint64_t  payment_breaker_bucket_ns[PAYMENT_BREAKER_BUCKETS - 1];


/* the defaults of the payment_breaker_* directives */

void payment_breaker_conf_default(payment_breaker_conf_t *conf);

/* NULL when all is well, else a sentence that names the wrong directive */

const char *payment_breaker_conf_check(const payment_breaker_conf_t *conf);

/* bytes that payment_breaker_init() wants for a valid conf */

size_t payment_breaker_memory(const payment_breaker_conf_t *conf);

/*
 * The memory stays the caller's, aligned as malloc() aligns, and must outlive
 * the breaker.  0, or -1 when the conf is invalid or the memory too small.
 */

int payment_breaker_init(payment_breaker_t *b,
    const payment_breaker_conf_t *conf, void *memory, size_t size,
    uint64_t now_ns);


/* 1 and a token when the call is permitted, else 0 */

int payment_breaker_acquire(payment_breaker_t *b, uint64_t now_ns,
    payment_breaker_token_t *token);

void payment_breaker_on_result(payment_breaker_t *b, uint64_t now_ns,
    payment_breaker_token_t token, uint64_t duration_ns,
    payment_breaker_outcome_e outcome);

/*
 * Judges the rates as if the results of some calls had come that are still on
 * their way: so many that are slow, so many that fail.  It may open the breaker
 * and never closes it; nothing is recorded.  Only calls whose token is current
 * may be counted.
 */

void payment_breaker_presume(payment_breaker_t *b, uint64_t now_ns,
    uint32_t slow, uint32_t failed);


static inline int
payment_breaker_is_current(const payment_breaker_t *b,
    payment_breaker_token_t token)
{
    return token == b->generation;
}


/* The call was not made after all: the event was taken back from the producer's
 * queue, or the queue was full. */

void payment_breaker_release(payment_breaker_t *b,
    payment_breaker_token_t token);

/*
 * Makes a timed transition that is due and returns when to call again, or
 * PAYMENT_BREAKER_NEVER.  That time changes with the state: ask again after
 * each STATE_TRANSITION.
 */

uint64_t payment_breaker_tick(payment_breaker_t *b, uint64_t now_ns);

/*
 * 0, or -1 and nothing changed where Resilience4j forbids the transition:
 * CLOSED to HALF_OPEN, METRICS_ONLY to OPEN and to HALF_OPEN.  To the state
 * that it is in: a fresh start of that state, silently.
 */

int payment_breaker_force(payment_breaker_t *b, uint64_t now_ns,
    payment_breaker_state_e state);

/* CLOSED with empty metrics, from any state.  What is counted since
 * payment_breaker_init() stays. */

void payment_breaker_reset(payment_breaker_t *b, uint64_t now_ns);

/* A copy of the figures.  It moves the window on to now_ns, and makes no
 * transition, not even one that is due. */

void payment_breaker_snapshot(payment_breaker_t *b, uint64_t now_ns,
    payment_breaker_snapshot_t *s);


/* "HALF_OPEN" and the like; the label is "half_open", as in the metrics */

const char *payment_breaker_state_name(payment_breaker_state_e state);
const char *payment_breaker_state_label(payment_breaker_state_e state);
const char *payment_breaker_event_name(payment_breaker_event_e event);


#endif /* PAYMENT_BREAKER_H_INCLUDED */
