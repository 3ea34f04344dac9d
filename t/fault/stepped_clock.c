/*
 * A clock for tests, loaded into mariadbd before the system's library: the time
 * of day is the real one plus so many seconds as the 8 bytes of the file
 * $STEPPED_CLOCK say, at any moment. Time that only passes (CLOCK_MONOTONIC)
 * is as ever.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>


static volatile const int64_t  *offset;


__attribute__((constructor))
static void
map(void)
{
    int          fd;
    void        *p;
    const char  *path;

    path = getenv("STEPPED_CLOCK");
    fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

    if (fd == -1) {
        return;
    }

    p = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
    offset = (p == MAP_FAILED) ? NULL : p;

    (void) close(fd);
}


int
clock_gettime(clockid_t clock, struct timespec *ts)
{
    long  rc;

    rc = syscall(SYS_clock_gettime, clock, ts);

    if (rc == 0 && offset
        && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    {
        ts->tv_sec += *offset;
    }

    return (int) rc;
}


int
gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
    struct timespec  ts;

    (void) tz;

    if (clock_gettime(CLOCK_REALTIME, &ts) != 0) {
        return -1;
    }

    tv->tv_sec = ts.tv_sec;
    tv->tv_usec = ts.tv_nsec / 1000;

    return 0;
}


time_t
time(time_t *t)
{
    struct timespec  ts;

    if (clock_gettime(CLOCK_REALTIME, &ts) != 0) {
        return -1;
    }

    if (t) {
        *t = ts.tv_sec;
    }

    return ts.tv_sec;
}
