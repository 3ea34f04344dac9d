/*
 * What the kernel knows of nginx's processes: /proc/<pid>/stat, see proc(5).
 */

#ifndef NGX_HTTP_PAYMENT_PROCESS_H
#define NGX_HTTP_PAYMENT_PROCESS_H

#include "ngx_http_payment_module.h"


typedef struct {
    uint64_t    start_ms;           /* since the machine's start */
    uint64_t    cpu_ms;
    uint64_t    resident_bytes;
} ngx_http_payment_process_t;


/* NGX_DECLINED: there is no such process, or nothing is told of it. */
ngx_int_t ngx_http_payment_process_read(ngx_http_payment_process_t *process,
    ngx_pid_t pid);

#endif /* NGX_HTTP_PAYMENT_PROCESS_H */
