/*
 * The module's version: payment_status and the metrics take it from here.
 * openapi.json, CHANGES and debian/changelog repeat it for their readers, and
 * t/unit/test_version.py tells when one of them was forgotten.
 */

#ifndef NGX_PAYMENT_VERSION_H
#define NGX_PAYMENT_VERSION_H


#define NGX_PAYMENT_VERSION  "1.0.0"

#endif /* NGX_PAYMENT_VERSION_H */
