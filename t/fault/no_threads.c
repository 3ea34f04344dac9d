/*
 * For nginx in tests: while the file that NO_THREADS names is there, no thread
 * can be had, as where the user's limit of processes is reached.  The name is
 * copied when the program starts, for nginx gives its workers no environment,
 * and writes their titles over its own.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


static char  *no_threads;


__attribute__((constructor))
static void
no_threads_init(void)
{
    const char  *name;

    name = getenv("NO_THREADS");
    no_threads = name ? strdup(name) : NULL;
}


int
pthread_create(pthread_t *thread, const pthread_attr_t *attr,
    void *(*start)(void *), void *data)
{
    int  (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *),
                 void *);

    if (no_threads && access(no_threads, F_OK) == 0) {
        return EAGAIN;
    }

    *(void **) &next = dlsym(RTLD_NEXT, "pthread_create");

    return next(thread, attr, start, data);
}
