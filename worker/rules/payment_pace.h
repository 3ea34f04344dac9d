/*
 * How soon the outbox reads again: at once in a quiet moment, and after a pause
 * under load, so that more events gather.  A group of events has a price of its
 * own, whatever its size: a read and a flush of the log in the database, a
 * request to Kafka for each partition with its answer, and the wake-ups of
 * everybody who has a part in that.  The more events come, the more of that a
 * pause saves, and the more events pay for it with their age.  Pure: no clock,
 * no I/O.
 *
 * What tells a quiet moment from load is how many events come while a read is
 * under way: many when they are many, and also when everything takes long
 * because the machine or its disk has all that it can do.  A read counts as
 * PAYMENT_PACE_READ_NS at least.  With PAYMENT_PACE_FULL events the pause is
 * the longest that the operator allows, with half as many it is half of that.
 * It is counted from the end of a read, so an event that comes when none has
 * come for so long is read at once.
 *
 * The rate is a mean of about PAYMENT_PACE_MEMORY_NS: a burst of that length is
 * known to be one, and a single full batch is not.
 *
 * Owner: the helper process; one pace a shard, and one of looking at what
 * workers tell.
 * Limits: constant time, and four numbers; no pause is longer than what
 * payment_pace_init() was told.
 */

#ifndef PAYMENT_PACE_H_INCLUDED
#define PAYMENT_PACE_H_INCLUDED


#include <stdint.h>


#define PAYMENT_PACE_FULL         20           /* events */
#define PAYMENT_PACE_READ_NS      UINT64_C(2500000)
#define PAYMENT_PACE_MEMORY_NS    UINT64_C(100000000)
#define PAYMENT_PACE_READS        8            /* mean of the time they take */


typedef struct {
    uint64_t  max_ns;         /* the longest pause; 0: none is made */
    uint64_t  began_ns;       /* the read before */
    double    rate;           /* events in a ns, lately */
    double    took_ns;        /* a read, lately */
} payment_pace_t;


void payment_pace_init(payment_pace_t *p, uint64_t max_ns);

/* A read that began and ended then found so many events: the pause after it, in
 * ns. */

uint64_t payment_pace_read(payment_pace_t *p, uint64_t began_ns,
    uint64_t ended_ns, uint32_t n);


#endif /* PAYMENT_PACE_H_INCLUDED */
