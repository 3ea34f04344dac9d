/*
 * A resolver for tests, loaded before the system's: slow.test is 127.0.0.1
 * after three seconds, never.test does not exist after three seconds, all other
 * names are as ever. Nothing on the machine has to be changed for it.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <time.h>


int
getaddrinfo(const char *node, const char *service,
    const struct addrinfo *hints, struct addrinfo **res)
{
    struct timespec  three = { 3, 0 };

    int  (*next)(const char *, const char *, const struct addrinfo *,
                 struct addrinfo **);

    *(void **) &next = dlsym(RTLD_NEXT, "getaddrinfo");

    if (node && strcmp(node, "slow.test") == 0) {
        nanosleep(&three, NULL);
        node = "127.0.0.1";
    }

    if (node && strcmp(node, "never.test") == 0) {
        nanosleep(&three, NULL);
        return EAI_NONAME;
    }

    return next(node, service, hints, res);
}
