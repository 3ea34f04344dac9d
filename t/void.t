# POST .../void/{paymentId}: an authorization is given back, once, and only
# before anything of it was captured.

use lib 't/lib';
use PaymentTest;
use Test::Nginx::Socket 'no_plan';

run_tests();

__DATA__

=== an authorization
--- init
PaymentTest::given(A => { amount => 1000 });
--- request
POST /api/payments/void/{A}
{"merchantId":"M1"}
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body
A VOIDED 1000 KRW, captured 0, refunded 0
row: M1 VOIDED 1000 KRW, captured 0, refunded 0, version 2
events: authorized, voided



=== in every other state it is a conflict, and nothing changes
--- init
PaymentTest::given(A => {}, capture => { amount => 10 });
PaymentTest::given(B => {}, capture => {});
PaymentTest::given(C => {}, capture => {}, refund => { amount => 10 });
PaymentTest::given(D => {}, capture => {}, refund => {});
PaymentTest::given(E => {}, void => {});
--- request eval
[map { qq[POST /api/payments/void/{$_}
{"merchantId":"M1"}] } 'A' .. 'E']
--- error_code eval
[(409) x 5]
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body eval
["409 VOID_CONFLICT, of A
row: M1 PARTIALLY_CAPTURED 1000 KRW, captured 10, refunded 0, version 2
events: authorized, captured
",
"409 VOID_CONFLICT, of B
row: M1 CAPTURED 1000 KRW, captured 1000, refunded 0, version 2
events: authorized, captured
",
"409 VOID_CONFLICT, of C
row: M1 PARTIALLY_REFUNDED 1000 KRW, captured 1000, refunded 10, version 3
events: authorized, captured, refunded
",
"409 VOID_CONFLICT, of D
row: M1 REFUNDED 1000 KRW, captured 1000, refunded 1000, version 3
events: authorized, captured, refunded
",
"409 VOID_CONFLICT, of E
row: M1 VOIDED 1000 KRW, captured 0, refunded 0, version 2
events: authorized, voided
"]



=== payment_void_remainder: what was not captured is released
--- config
    location /api/payments {
        payment_api;
        payment_void_remainder on;
    }
--- init
PaymentTest::given(A => { amount => 1000 }, capture => { amount => 300 });
--- request eval
[(qq[POST /api/payments/void/{A}
{"merchantId":"M1","idempotencyKey":"rest"}]) x 2,
 qq[POST /api/payments/void/{A}
{"merchantId":"M1"}],
 qq[POST /api/payments/capture/{A}
{"merchantId":"M1"}]]
--- error_code eval
[200, 200, 409, 409]
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body eval
[("A CAPTURED 1000 KRW, captured 300, refunded 0
row: M1 CAPTURED 1000 KRW, captured 300, refunded 0, version 3
events: authorized, captured, voided
") x 2,
"409 VOID_CONFLICT, of A
row: M1 CAPTURED 1000 KRW, captured 300, refunded 0, version 3
events: authorized, captured, voided
",
"409 CAPTURE_CONFLICT, of A
row: M1 CAPTURED 1000 KRW, captured 300, refunded 0, version 3
events: authorized, captured, voided
"]



=== payment_void_remainder: an authorization, and all that is captured
--- config
    location /api/payments {
        payment_api;
        payment_void_remainder on;
    }
--- init
PaymentTest::given(A => { amount => 1000 });
PaymentTest::given(B => { amount => 1000 }, capture => {});
--- request eval
[map { qq[POST /api/payments/void/{$_}
{"merchantId":"M1"}] } 'A', 'B']
--- error_code eval
[200, 409]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["A VOIDED 1000 KRW, captured 0, refunded 0\n",
 "409 VOID_CONFLICT, of B\n"]



=== the event of a released remainder says how much that is
--- config
    location /api/payments {
        payment_api;
        payment_void_remainder on;
    }
--- init
PaymentTest::given(A => { amount => 1000 }, capture => { amount => 300 });
--- request
POST /api/payments/void/{A}
{"merchantId":"M1"}
--- response_body_filters eval
sub {
    my $id = JSON::PP::decode_json(shift)->{paymentId};
    my ($event) = map { JSON::PP::decode_json($_) } PaymentTest::sql(
        "SELECT payload FROM outbox_event WHERE aggregateid = '$id'"
        . " ORDER BY id DESC LIMIT 1");
    return "$event->{eventType} $event->{status} $event->{operationAmount}"
           . " of $event->{amount}, captured $event->{capturedAmount}\n";
}
--- response_body
voided CAPTURED 700 of 1000, captured 300



=== no such payment
--- init
PaymentTest::given(A => { amount => 1000, merchantId => 'M9' });
--- request eval
[map { qq[POST /api/payments/void/$_
{"merchantId":"M1"}] }
 '{A}', '01890000-0000-7000-8000-000000000000', 'nonsense']
--- error_code eval
[404, 404, 404]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[("404 NOT_FOUND\n") x 3]



=== members
--- init
PaymentTest::given(A => {});
--- request eval
[map { "POST /api/payments/void/{A}\n$_" }
 '{}', '{"merchantId":null}', '{"merchantId":"M1","idempotencyKey":""}']
--- error_code eval
[400, 400, 400]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[map { "400 INVALID_REQUEST $_\n" } qw( merchantId merchantId idempotencyKey )]



=== with a key, again: the same answer
--- init
PaymentTest::given(A => {});
--- request eval
[(qq[POST /api/payments/void/{A}
{"merchantId":"M1","idempotencyKey":"v5"}]) x 2]
--- error_code eval
[200, 200]
--- response_body_filters eval
\&PaymentTest::same
--- response_body eval
["A VOIDED 1000 KRW, captured 0, refunded 0\n", "same\n"]



=== a void and a capture at the same time: one of them
--- init
PaymentTest::given(A => {});
--- request
GET /status
--- response_body_filters eval
sub {
    my $id = PaymentTest::id_of('A');
    my @code;
    for my $operation (qw( void capture )) {
        pipe my $in, my $out;
        my $pid = fork;
        if (!$pid) {
            my ($code) = PaymentTest::http('POST', "/api/payments/$operation/$id",
                                           '{"merchantId":"M1"}');
            syswrite $out, $code;
            POSIX::_exit(0);
        }
        close $out;
        push @code, sub { my $code = <$in>; waitpid $pid, 0; $code };
    }
    my $codes = CORE::join ' and ', CORE::sort map { $_->() } @code;
    my ($status) = PaymentTest::kept($id) =~ /(VOIDED|CAPTURED).*version 2/;
    return $codes . (defined $status ? ", one state\n" : ", no state\n");
}
--- response_body
200 and 409, one state
