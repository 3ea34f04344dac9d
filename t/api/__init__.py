"""Tests of the HTTP API from outside: nginx, MariaDB and Kafka are real.

test_model.py     random operations and races against a model
test_openapi.py   schemathesis over the description that the server gives
test_http.py      what HTTP/1.1 clients do that t/*.t do not reach
test_http2.py     the same for HTTP/2, with and without TLS
test_examples.py  every file of conf/examples does what its comments say

Each file has a short form, which is a part of `make test`, and what makes
sense of a long one with PAYMENT_TEST_LONG=1.
"""
