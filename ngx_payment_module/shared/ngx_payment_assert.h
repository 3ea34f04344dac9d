/*
 * What must hold, or the process may not go on with money.
 *
 * Any process: it ends, and nginx's master starts another one.
 */

#ifndef NGX_PAYMENT_ASSERT_H
#define NGX_PAYMENT_ASSERT_H

#include <ngx_config.h>
#include <ngx_core.h>


#define ngx_payment_assert(x)                                                 \
    do {                                                                      \
        if (!(x)) {                                                           \
            ngx_log_error(NGX_LOG_EMERG, ngx_cycle->log, 0,                   \
                          "payment: assertion \"" #x "\" failed, "            \
                          __FILE__ ":%d", __LINE__);                          \
            ngx_debug_point();                                                \
            abort();                                                          \
        }                                                                     \
    } while (0)

#endif /* NGX_PAYMENT_ASSERT_H */
