/* What is logged once a second: see ngx_payment_storm.h. */

#include "ngx_payment_storm.h"


const char *
ngx_payment_storm_note(ngx_payment_storm_t *storm, ngx_uint_t kind)
{
    ngx_msec_t                 silence;
    ngx_payment_storm_kind_t  *k;

    k = &storm->kinds[kind % NGX_PAYMENT_STORM_KINDS];
    silence = ngx_max(2 * k->pause, NGX_PAYMENT_STORM_SILENCE);

    if (k->kind != kind || ngx_current_msec - k->last >= silence) {
        k->pause = NGX_PAYMENT_STORM_PAUSE;

    } else if (ngx_current_msec - k->logged < k->pause) {
        k->last = ngx_current_msec;
        k->more++;
        return NULL;

    } else {
        k->pause = ngx_min(2 * k->pause, NGX_PAYMENT_STORM_PAUSE_MAX);
    }

    storm->note[0] = '\0';

    if (k->kind == kind && k->more) {
        (void) snprintf(storm->note, NGX_PAYMENT_STORM_NOTE_LEN,
                        " (and %lu more like it before)",
                        (unsigned long) k->more);
    }

    k->kind = kind;
    k->logged = ngx_current_msec;
    k->last = ngx_current_msec;
    k->more = 0;

    return storm->note;
}
