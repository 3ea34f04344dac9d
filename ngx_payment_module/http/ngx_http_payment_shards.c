/*
 * All shards together: the map from slots to shards, and that no two of them
 * have the same database.
 *
 * Runs while the configuration is read, in the master.
 *
 * Limits: every slot has exactly one shard.
 */

#include "ngx_http_payment_module.h"
#include "ngx_http_payment_server.h"


static char *ngx_http_payment_shards_take_slots(ngx_conf_t *cf,
    ngx_http_payment_main_conf_t *pmcf, ngx_payment_shard_t *shard);
static char *ngx_http_payment_shards_gap(ngx_conf_t *cf,
    ngx_http_payment_main_conf_t *pmcf);
static char *ngx_http_payment_shards_slots_text(ngx_conf_t *cf,
    ngx_http_payment_main_conf_t *pmcf, ngx_payment_shard_t *shard);
static char *ngx_http_payment_shards_databases(ngx_conf_t *cf,
    ngx_http_payment_main_conf_t *pmcf);
static ngx_payment_server_t *ngx_http_payment_shards_common_server(
    ngx_payment_shard_t *one, ngx_payment_shard_t *other);


/*
 * Gives every slot its shard.  Called when all of http{} is read, so that the
 * order of the blocks does not matter.
 */

char *
ngx_http_payment_shards_init(ngx_conf_t *cf, ngx_http_payment_main_conf_t *pmcf)
{
    ngx_uint_t             i;
    ngx_payment_slots_t   *slots;
    ngx_payment_shard_t  **shards;

    if (pmcf->shards.nelts == 0) {
        return NGX_CONF_OK;
    }

    ngx_memzero(pmcf->slots, sizeof(pmcf->slots));

    shards = pmcf->shards.elts;

    for (i = 0; i < pmcf->shards.nelts; i++) {
        shards[i]->index = i;
        shards[i]->operations = pmcf->operations;
        shards[i]->expiry = pmcf->expiry;

        if (shards[i]->slots.nelts == 0) {
            if (pmcf->shards.nelts > 1) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "no \"slots\" in payment_shard \"%V\", "
                                   "though there are %ui shards",
                                   &shards[i]->name, pmcf->shards.nelts);
                return NGX_CONF_ERROR;
            }

            slots = ngx_array_push(&shards[i]->slots);
            if (slots == NULL) {
                return NGX_CONF_ERROR;
            }

            slots->first = 0;
            slots->last = PAYMENT_SLOTS - 1;
        }

        if (ngx_http_payment_shards_take_slots(cf, pmcf, shards[i])
            != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    if (ngx_http_payment_shards_gap(cf, pmcf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < pmcf->shards.nelts; i++) {
        shards[i]->peers = &pmcf->shards;

        if (ngx_http_payment_shards_slots_text(cf, pmcf, shards[i])
            != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    return ngx_http_payment_shards_databases(cf, pmcf);
}


static char *
ngx_http_payment_shards_take_slots(ngx_conf_t *cf,
    ngx_http_payment_main_conf_t *pmcf, ngx_payment_shard_t *shard)
{
    ngx_uint_t            i, slot;
    ngx_payment_slots_t  *slots;

    slots = shard->slots.elts;

    for (i = 0; i < shard->slots.nelts; i++) {
        for (slot = slots[i].first; slot <= slots[i].last; slot++) {

            if (pmcf->slots[slot] == shard) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "payment_shard \"%V\" has slot %ui twice",
                                   &shard->name, slot);
                return NGX_CONF_ERROR;
            }

            if (pmcf->slots[slot]) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "payment_shard \"%V\" and payment_shard "
                                   "\"%V\" both have slot %ui",
                                   &pmcf->slots[slot]->name, &shard->name,
                                   slot);
                return NGX_CONF_ERROR;
            }

            pmcf->slots[slot] = shard;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_payment_shards_gap(ngx_conf_t *cf, ngx_http_payment_main_conf_t *pmcf)
{
    ngx_uint_t  first, last;

    for (first = 0; first < PAYMENT_SLOTS; first++) {
        if (pmcf->slots[first] == NULL) {
            break;
        }
    }

    if (first == PAYMENT_SLOTS) {
        return NGX_CONF_OK;
    }

    for (last = first; last + 1 < PAYMENT_SLOTS; last++) {
        if (pmcf->slots[last + 1]) {
            break;
        }
    }

    if (first == last) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no payment_shard has slot %ui", first);

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no payment_shard has slots %ui-%ui", first, last);
    }

    return NGX_CONF_ERROR;
}


/* "0-99 200 300-399": whatever the order of the configuration, one text */

static char *
ngx_http_payment_shards_slots_text(ngx_conf_t *cf,
    ngx_http_payment_main_conf_t *pmcf, ngx_payment_shard_t *shard)
{
    u_char      *p;
    ngx_uint_t   first, last;

    /* at most every other slot, with four digits and a space */

    p = ngx_pnalloc(cf->pool, PAYMENT_SLOTS / 2 * 5 + 1);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    shard->slots_text.data = p;

    for (first = 0; first < PAYMENT_SLOTS; first = last + 1) {
        last = first;

        if (pmcf->slots[first] != shard) {
            continue;
        }

        while (last + 1 < PAYMENT_SLOTS && pmcf->slots[last + 1] == shard) {
            last++;
        }

        if (p != shard->slots_text.data) {
            *p++ = ' ';
        }

        p = ngx_sprintf(p, "%ui", first);

        if (last != first) {
            p = ngx_sprintf(p, "-%ui", last);
        }
    }

    *p = '\0';
    shard->slots_text.len = p - shard->slots_text.data;

    return NGX_CONF_OK;
}


/* Shards that share a database would each delete the other's events. */

static char *
ngx_http_payment_shards_databases(ngx_conf_t *cf,
    ngx_http_payment_main_conf_t *pmcf)
{
    ngx_uint_t             i, k;
    ngx_payment_shard_t  **shards;
    ngx_payment_server_t  *server;

    shards = pmcf->shards.elts;

    for (i = 0; i < pmcf->shards.nelts; i++) {
        for (k = 0; k < i; k++) {

            if (ngx_strcmp(shards[i]->database.data, shards[k]->database.data)
                != 0)
            {
                continue;
            }

            server = ngx_http_payment_shards_common_server(shards[k],
                                                           shards[i]);

            if (server) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "payment_shard \"%V\" and payment_shard "
                                   "\"%V\" have the same database \"%V\" of "
                                   "server \"%V\"",
                                   &shards[k]->name, &shards[i]->name,
                                   &shards[i]->database, &server->name);
                return NGX_CONF_ERROR;
            }
        }
    }

    return NGX_CONF_OK;
}


/* NULL: as far as the configuration says, they have none in common. */

static ngx_payment_server_t *
ngx_http_payment_shards_common_server(ngx_payment_shard_t *one,
    ngx_payment_shard_t *other)
{
    ngx_uint_t             i, k;
    ngx_payment_server_t  *a, *b;

    a = one->servers.elts;
    b = other->servers.elts;

    for (i = 0; i < one->servers.nelts; i++) {
        for (k = 0; k < other->servers.nelts; k++) {
            if (ngx_http_payment_server_same(&a[i], &b[k])) {
                return &a[i];
            }
        }
    }

    return NULL;
}
