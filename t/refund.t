# POST .../refund/{paymentId}: all that was captured, a part of it, several
# parts, with a reason, never more than was captured.

use lib 't/lib';
use PaymentTest;
use Test::Nginx::Socket 'no_plan';

run_tests();

__DATA__

=== the whole, with the body that clients send
--- init
PaymentTest::given(A => { amount => 1000 }, capture => {});
--- request
POST /api/payments/refund/{A}
{"merchantId":"M1","reason":"damaged"}
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body
A REFUNDED 1000 KRW, captured 1000, refunded 1000
row: M1 REFUNDED 1000 KRW, captured 1000, refunded 1000, version 3
events: authorized, captured, refunded



=== a part, another part, the rest
--- init
PaymentTest::given(A => { amount => 1000 }, capture => {});
--- request eval
[map { qq[POST /api/payments/refund/{A}
{"merchantId":"M1","reason":"r"$_}] } ',"amount":1', ',"amount":499', '']
--- error_code eval
[200, 200, 200]
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body eval
["A PARTIALLY_REFUNDED 1000 KRW, captured 1000, refunded 1
row: M1 PARTIALLY_REFUNDED 1000 KRW, captured 1000, refunded 1, version 3
events: authorized, captured, refunded
",
"A PARTIALLY_REFUNDED 1000 KRW, captured 1000, refunded 500
row: M1 PARTIALLY_REFUNDED 1000 KRW, captured 1000, refunded 500, version 4
events: authorized, captured, refunded, refunded
",
"A REFUNDED 1000 KRW, captured 1000, refunded 1000
row: M1 REFUNDED 1000 KRW, captured 1000, refunded 1000, version 5
events: authorized, captured, refunded, refunded, refunded
"]



=== of a partial capture, all that was captured
--- init
PaymentTest::given(A => { amount => 1000 }, capture => { amount => 300 });
--- request
POST /api/payments/refund/{A}
{"merchantId":"M1","reason":"r"}
--- response_body_filters eval
\&PaymentTest::told
--- response_body
A REFUNDED 1000 KRW, captured 300, refunded 300



=== more than was captured
--- init
PaymentTest::given(A => { amount => 1000 }, capture => { amount => 300 });
--- request
POST /api/payments/refund/{A}
{"merchantId":"M1","reason":"r","amount":301}
--- error_code: 409
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body
409 REFUND_CONFLICT amount, of A
row: M1 PARTIALLY_CAPTURED 1000 KRW, captured 300, refunded 0, version 2
events: authorized, captured



=== more than is left
--- init
PaymentTest::given(A => { amount => 1000 }, capture => {}, refund => { amount => 700 });
--- request
POST /api/payments/refund/{A}
{"merchantId":"M1","reason":"r","amount":301}
--- error_code: 409
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body
409 REFUND_CONFLICT amount, of A
row: M1 PARTIALLY_REFUNDED 1000 KRW, captured 1000, refunded 700, version 3
events: authorized, captured, refunded



=== before anything was captured
--- init
PaymentTest::given(A => { amount => 1000 });
--- request
POST /api/payments/refund/{A}
{"merchantId":"M1","reason":"r"}
--- error_code: 409
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body
409 REFUND_CONFLICT, of A
row: M1 AUTHORIZED 1000 KRW, captured 0, refunded 0, version 1
events: authorized



=== after all went back, and after a void
--- init
PaymentTest::given(A => { amount => 1000 }, capture => {}, refund => {});
PaymentTest::given(B => { amount => 1000 }, void => {});
--- request eval
[map { qq[POST /api/payments/refund/{$_}
{"merchantId":"M1","reason":"r"}] } 'A', 'B']
--- error_code eval
[409, 409]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["409 REFUND_CONFLICT, of A\n", "409 REFUND_CONFLICT, of B\n"]



=== no such payment
--- init
PaymentTest::given(A => { amount => 1000, merchantId => 'M9' }, capture => {});
--- request eval
[map { qq[POST /api/payments/refund/$_
{"merchantId":"M1","reason":"r"}] }
 '{A}', '01890000-0000-7000-8000-000000000000', 'nonsense']
--- error_code eval
[404, 404, 404]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[("404 NOT_FOUND\n") x 3]



=== the reason
--- init
PaymentTest::given(A => { amount => 1000 }, capture => {});
--- request eval
[map { qq[POST /api/payments/refund/{A}
{"merchantId":"M1"$_}] }
 '', ',"reason":null', ',"reason":""', ',"reason":"  "', ',"reason":7',
 ',"reason":["r"]', ',"reason":"' . 'r' x 129 . '"',
 ',"reason":"' . "\xed\x95\x9c" x 129 . '"', ',"reason":"a\u0000"',
 ',"reason":"a\u0007"']
--- error_code eval
[(400) x 10]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[("400 INVALID_REQUEST reason\n") x 10]



=== the longest reason, in characters, and in the event as it came
--- init
PaymentTest::given(A => { amount => 1000 }, capture => {});
--- request eval
my $reason = "\xed\x95\x9c" x 120 . "\\\"\\\\\\nend.";
qq[POST /api/payments/refund/{A}
{"merchantId":"M1","reason":"$reason"}]
--- response_body_filters eval
sub {
    my $id = JSON::PP::decode_json(shift)->{paymentId};
    my $event = JSON::PP::decode_json(PaymentTest::sql(
        "SELECT payload FROM outbox_event
         WHERE aggregateid = '$id' AND type = 'refunded'"));
    my $reason = $event->{reason};
    utf8::encode($reason);
    return $reason;
}
--- response_body eval
"\xed\x95\x9c" x 120 . "\"\\\nend."



=== the other members
--- init
PaymentTest::given(A => { amount => 1000 }, capture => {});
--- request eval
[map { "POST /api/payments/refund/{A}\n$_" }
 '{"reason":"r"}', '{"merchantId":"M1","reason":"r","amount":0}',
 '{"merchantId":"M1","reason":"r","amount":2.5}',
 '{"merchantId":"M1","reason":"r","idempotencyKey":7}']
--- error_code eval
[(400) x 4]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[map { "400 INVALID_REQUEST $_\n" } qw( merchantId amount amount idempotencyKey )]



=== by 30 clients at once, without keys: never more than was captured
--- init
PaymentTest::given(A => { amount => 1000 }, capture => { amount => 500 });
--- request
GET /status
--- response_body_filters eval
sub {
    my @answers = PaymentTest::http_at_once(30, 'POST',
        '/api/payments/refund/' . PaymentTest::id_of('A'),
        '{"merchantId":"M1","reason":"r","amount":90}');
    return PaymentTest::tally(map { $_->[0] } @answers)
           . PaymentTest::kept(PaymentTest::id_of('A'));
}
--- response_body eval
"5 x 200, 25 x 409
row: M1 PARTIALLY_REFUNDED 1000 KRW, captured 500, refunded 450, version 7
events: authorized, captured" . ', refunded' x 5 . "\n"
