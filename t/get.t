# GET .../{paymentId}: the payment as it is now, to its merchant only.

use lib 't/lib';
use PaymentTest;
use Test::Nginx::Socket 'no_plan';

run_tests();

__DATA__

=== a payment
--- init
PaymentTest::given(A => { amount => 1000 });
--- request
GET /api/payments/{A}?merchantId=M1
--- response_body_filters eval
\&PaymentTest::told
--- response_body
A AUTHORIZED 1000 KRW, captured 0, refunded 0



=== after each change
--- init
PaymentTest::given(A => {}, capture => { amount => 400 });
PaymentTest::given(B => {}, capture => {}, refund => { amount => 1 });
PaymentTest::given(C => {}, capture => {}, refund => {});
PaymentTest::given(D => {}, void => {});
--- request eval
[map { "GET /api/payments/{$_}?merchantId=M1" } 'A' .. 'D']
--- error_code eval
[(200) x 4]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["A PARTIALLY_CAPTURED 1000 KRW, captured 400, refunded 0\n",
 "B PARTIALLY_REFUNDED 1000 KRW, captured 1000, refunded 1\n",
 "C REFUNDED 1000 KRW, captured 1000, refunded 1000\n",
 "D VOIDED 1000 KRW, captured 0, refunded 0\n"]



=== reading changes nothing
--- init
PaymentTest::given(A => {});
--- request eval
[("GET /api/payments/{A}?merchantId=M1") x 3]
--- error_code eval
[200, 200, 200]
--- response_body_filters eval
\&PaymentTest::same
--- response_body eval
["A AUTHORIZED 1000 KRW, captured 0, refunded 0\n", "same\n", "same\n"]



=== without a merchant
--- init
PaymentTest::given(A => {});
--- request eval
["GET /api/payments/{A}", "GET /api/payments/{A}?merchantId=",
 "GET /api/payments/{A}?merchant=M1"]
--- error_code eval
[400, 400, 400]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[("400 INVALID_REQUEST merchantId\n") x 3]



=== another merchant's, and nobody's
--- init
PaymentTest::given(A => { merchantId => 'M9' });
--- request eval
["GET /api/payments/{A}?merchantId=M1",
 "GET /api/payments/01890000-0000-7000-8000-000000000000?merchantId=M1"]
--- error_code eval
[404, 404]
--- response_body_filters eval
\&PaymentTest::same
--- response_body eval
["404 NOT_FOUND\n", "same\n"]



=== an id that is none
--- request eval
[map { "GET /api/payments/$_?merchantId=M1" } '1', 'x' x 36, '..%2f', '%00']
--- error_code_like eval
["^404\$", "^404\$", "^40[04]\$", "^40[04]\$"]
--- response_headers_like eval
[("Content-Type: .*") x 4]



=== a merchant's name may be percent-encoded, and have a plus
--- init
PaymentTest::given(A => { merchantId => 'A & B+c' });
--- request eval
["GET /api/payments/{A}?merchantId=A%20%26%20B%2Bc",
 "GET /api/payments/{A}?merchantId=A%20%26%20B%2bc&x=1"]
--- error_code eval
[200, 200]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[("A AUTHORIZED 1000 KRW, captured 0, refunded 0\n") x 2]



=== HEAD has what GET has, but the body
--- init
PaymentTest::given(A => {});
--- request
HEAD /api/payments/{A}?merchantId=M1
--- response_headers_like
Content-Type: application/json
Content-Length: [1-9]\d+
--- response_body eval
""




=== a query with two merchants is refused, however they are written
--- init
PaymentTest::given(A => {});
--- request eval
["GET /api/payments/{A}?merchantId=M1&merchantId=M2",
 "GET /api/payments/{A}?merchantId=M1&merchantId=M1",
 "GET /api/payments/{A}?merchant%49d=M2&x=y&merchantId=M1",
 "GET /api/payments/{A}?merchantId&merchantId=M1"]
--- error_code eval
[400, 400, 400, 400]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[("400 INVALID_REQUEST merchantId\n") x 4]



=== the name is merchantId to the letter; what is beside it is ignored
--- init
PaymentTest::given(A => {});
--- request eval
["GET /api/payments/{A}?merchantid=M1",
 "GET /api/payments/{A}?MERCHANTID=M2&merchantId=M1",
 "GET /api/payments/{A}?xmerchantId=M2&merchantId=M1&&=&merchantIdx=M2&%zz=%",
 "GET /api/payments/{A}?merchant%49d=M1"]
--- error_code eval
[400, 200, 200, 200]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["400 INVALID_REQUEST merchantId\n",
 ("A AUTHORIZED 1000 KRW, captured 0, refunded 0\n") x 3]



=== a broken escape in it is refused
--- request eval
[map { "GET /api/payments/01890000-0000-7000-8000-000000000000?merchantId=$_" }
 'M%', 'M%4', 'M%4g', 'M%+1', '%00', '%ff']
--- error_code eval
[(400) x 6]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[("400 INVALID_REQUEST merchantId\n") x 6]
