# One key, one payment, one answer: repeated later, in one packet, or by many
# at once on two workers.

use lib 't/lib';
use PaymentTest;
use Test::Nginx::Socket 'no_plan';

workers(2);
master_on();


sub authorize {
    my ($key, $amount) = @_;

    $amount //= 1000;
    return "POST /api/payments/authorize\n"
           . qq[{"merchantId":"M1","amount":$amount,"currency":"KRW"]
           . (defined $key ? qq[,"idempotencyKey":"$key"}] : '}');
}

our $json = 'Content-Type: application/json';

run_tests();

__DATA__

=== the same request again: the same answer, byte for byte
--- request eval
[main::authorize('i1'), main::authorize('i1')]
--- error_code eval
[200, 200]
--- response_headers eval
["! Idempotent-Replayed", "Idempotent-Replayed: true\nContent-Type: application/json"]
--- response_body_filters eval
\&PaymentTest::same
--- response_body eval
["P1 AUTHORIZED 1000 KRW, captured 0, refunded 0\n", "same\n"]



=== and one row, one event
--- request eval
[map { main::authorize('i2') } 1 .. 3]
--- error_code eval
[200, 200, 200]
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body eval
[("P1 AUTHORIZED 1000 KRW, captured 0, refunded 0
row: M1 AUTHORIZED 1000 KRW, captured 0, refunded 0, version 1
events: authorized
") x 3]



=== white space and the order of members are not part of a request
--- request eval
[main::authorize('i3'), qq[POST /api/payments/authorize
{ "idempotencyKey":"i3", "currency" : "\\u004bRW",
  "merchantId": "M1", "amount": 1000 }]]
--- error_code eval
[200, 200]
--- response_body_filters eval
\&PaymentTest::same
--- response_body eval
["P1 AUTHORIZED 1000 KRW, captured 0, refunded 0\n", "same\n"]



=== the key with another body
--- request eval
[main::authorize('i4'), main::authorize('i4', 1001), main::authorize('i4')]
--- error_code eval
[200, 422, 200]
--- response_body_filters eval
[[\&PaymentTest::same],
 [sub { PaymentTest::told(shift) =~ /^(422 IDEMPOTENCY_KEY_REUSED)/ ? $1 : 'other' }],
 [\&PaymentTest::same]]
--- response_body eval
["P1 AUTHORIZED 1000 KRW, captured 0, refunded 0\n",
 "422 IDEMPOTENCY_KEY_REUSED", "same\n"]



=== each member that makes it another request
--- request eval
my $m = sub { my %m = (merchantId => '"M1"', amount => 10, currency => '"KRW"', @_);
    "POST /api/payments/authorize\n{\"idempotencyKey\":\"i5\","
    . CORE::join(',', map { "\"$_\":$m{$_}" } CORE::sort keys %m) . '}' };
[$m->(), $m->(amount => 11), $m->(currency => '"USD"'),
 $m->(metadata => '{"a":"b"}'), $m->(merchantId => '"M2"')]
--- error_code eval
[200, 422, 422, 422, 200]



=== another merchant's key is another key
--- request eval
[map { qq[POST /api/payments/authorize
{"merchantId":"$_","amount":5,"currency":"KRW","idempotencyKey":"i6"}] } 'M1', 'M2']
--- error_code eval
[200, 200]
--- response_headers eval
["! Idempotent-Replayed", "! Idempotent-Replayed"]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["P1 AUTHORIZED 5 KRW, captured 0, refunded 0\n",
 "P2 AUTHORIZED 5 KRW, captured 0, refunded 0\n"]



=== neither a merchant's name nor its key can be read as the other's
--- request eval
[map { qq[POST /api/payments/authorize
{"merchantId":"$_->[0]","amount":5,"currency":"KRW","idempotencyKey":"$_->[1]"}] }
 ['ab', 'c'], ['a', 'bc']]
--- error_code eval
[200, 200]
--- response_headers eval
["! Idempotent-Replayed", "! Idempotent-Replayed"]



=== keys differ by case, and by white space
--- request eval
[map { main::authorize($_) } 'i8', 'I8', 'i8 ']
--- error_code eval
[200, 200, 200]
--- response_headers eval
[("! Idempotent-Replayed") x 3]



=== in the header as a string, as a bare token, or in the body: one key
--- request eval
[main::authorize(), main::authorize(), main::authorize('i9'), main::authorize('i9')]
--- more_headers eval
["$main::json\nIdempotency-Key: \"i9\"", "$main::json\nIdempotency-Key: i9",
 $main::json, "$main::json\nidempotency-key: \"i9\""]
--- error_code eval
[200, 200, 200, 200]
--- response_body_filters eval
\&PaymentTest::same
--- response_body eval
["P1 AUTHORIZED 1000 KRW, captured 0, refunded 0\n", ("same\n") x 3]



=== a header's quotes and backslashes are escapes
--- request eval
[main::authorize(), main::authorize('i\"1\\\\0')]
--- more_headers eval
["$main::json\nIdempotency-Key: \"i\\\"1\\\\0\"", $main::json]
--- error_code eval
[200, 200]
--- response_body_filters eval
\&PaymentTest::same
--- response_body eval
["P1 AUTHORIZED 1000 KRW, captured 0, refunded 0\n", "same\n"]



=== the longest header
--- request eval
[main::authorize(), main::authorize()]
--- more_headers eval
my $key = 'k' x 255;
["$main::json\nIdempotency-Key: \"$key\"", "$main::json\nIdempotency-Key: $key"]
--- error_code eval
[200, 200]
--- response_body_filters eval
\&PaymentTest::same
--- response_body eval
["P1 AUTHORIZED 1000 KRW, captured 0, refunded 0\n", "same\n"]



=== pipelined in one packet
--- pipelined_requests eval
[map { main::authorize('i12') } 1 .. 8]
--- error_code eval
[(200) x 8]
--- response_body_filters eval
\&PaymentTest::same
--- response_body eval
["P1 AUTHORIZED 1000 KRW, captured 0, refunded 0\n", ("same\n") x 7]



=== by 40 clients at once: one payment, equal answers
--- request
GET /status
--- response_body_filters eval
sub {
    my @answers = PaymentTest::http_at_once(40, 'POST', '/api/payments/authorize',
        '{"merchantId":"M13","amount":1,"currency":"KRW","idempotencyKey":"i13"}');
    my (%body, %code);
    for (@answers) { $code{$_->[0]}++; $body{$_->[2]}++ if $_->[0] eq '200' }
    delete $code{409};      # in progress elsewhere: allowed, with Retry-After
    my $late = grep { $_->[0] eq '409' && $_->[1] !~ /^Retry-After: \d+/mi } @answers;
    my $rows = PaymentTest::sql("SELECT COUNT(*) FROM payment WHERE merchant_id = 'M13'");
    return CORE::join(' ', CORE::sort keys %code) . ', ' . keys(%body)
           . " body, $late without Retry-After, rows $rows";
}
--- response_body
200, 1 body, 0 without Retry-After, rows 1



=== by 40 clients with different bodies: one wins, the rest hear 422
--- request
GET /status
--- response_body_filters eval
sub {
    my (%code, @pids);
    for my $n (1 .. 4) {
        pipe my $in, my $out;
        my $pid = fork;
        if (!$pid) {
            my @a = PaymentTest::http_at_once(10, 'POST', '/api/payments/authorize',
                qq[{"merchantId":"M14","amount":$n,"currency":"KRW","idempotencyKey":"i14"}]);
            syswrite $out, "@{[map { $_->[0] } @a]}";
            POSIX::_exit(0);
        }
        close $out;
        push @pids, [$pid, $in];
    }
    for (@pids) {
        my $in = $_->[1];
        $code{$_}++ for CORE::split ' ', <$in> // '';
        waitpid $_->[0], 0;
    }
    delete $code{409};
    my $rows = PaymentTest::sql("SELECT COUNT(*) FROM payment WHERE merchant_id = 'M14'");
    return CORE::join(' ', CORE::sort keys %code) . ", rows $rows";
}
--- response_body
200 422, rows 1



=== in conflict mode a duplicate is 409, with the payment's id
--- http_config
    payment_idempotency_replay conflict;
--- request eval
[main::authorize('i15'), main::authorize('i15')]
--- error_code eval
[200, 409]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["P1 AUTHORIZED 1000 KRW, captured 0, refunded 0\n",
 "409 DUPLICATE_REQUEST, of P1\n"]



=== and another body is 422 there too
--- http_config
    payment_idempotency_replay conflict;
--- request eval
[main::authorize('i16'), main::authorize('i16', 2)]
--- error_code eval
[200, 422]



=== a location chooses its mode
--- config
    location /replay {
        payment_api;
    }
    location /conflict {
        payment_idempotency_replay conflict;
        payment_api;
    }
--- request eval
my $b = (CORE::split /\n/, main::authorize('i17'), 2)[1];
["POST /replay/authorize\n$b", "POST /conflict/authorize\n$b",
 "POST /replay/authorize\n$b"]
--- error_code eval
[200, 409, 200]



=== the key outlives the process that took it
--- init
PaymentTest::http('POST', '/api/payments/authorize',
    '{"merchantId":"M1","amount":1000,"currency":"KRW","idempotencyKey":"i18"}');
kill 'HUP', PaymentTest::master_pid();
--- request eval
[main::authorize('i18'), main::authorize('i18')]
--- error_code eval
[200, 200]
--- response_headers eval
["Idempotent-Replayed: true", "Idempotent-Replayed: true"]



=== capture, refund and void replay too, as they were answered then
--- init
PaymentTest::given(A => { amount => 1000 });
--- request eval
my $capture = qq[POST /api/payments/capture/{A}
{"merchantId":"M1","amount":400,"idempotencyKey":"i19-c"}];
my $refund = qq[POST /api/payments/refund/{A}
{"merchantId":"M1","amount":100,"reason":"why","idempotencyKey":"i19-r"}];
[$capture, $refund, $refund, $capture]
--- error_code eval
[200, 200, 200, 200]
--- response_headers eval
["! Idempotent-Replayed", "! Idempotent-Replayed",
 "Idempotent-Replayed: true", "Idempotent-Replayed: true"]
--- response_body_filters eval
[\&PaymentTest::told_and_kept]
--- response_body eval
["A PARTIALLY_CAPTURED 1000 KRW, captured 400, refunded 0
row: M1 PARTIALLY_CAPTURED 1000 KRW, captured 400, refunded 0, version 2
events: authorized, captured
", map({ "A PARTIALLY_REFUNDED 1000 KRW, captured 400, refunded 100
row: M1 PARTIALLY_REFUNDED 1000 KRW, captured 400, refunded 100, version 3
events: authorized, captured, refunded
" } 1, 2), "A PARTIALLY_CAPTURED 1000 KRW, captured 400, refunded 0
row: M1 PARTIALLY_REFUNDED 1000 KRW, captured 400, refunded 100, version 3
events: authorized, captured, refunded
"]



=== a replayed capture is equal to the first byte for byte
--- init
PaymentTest::given(A => { amount => 1000 });
--- request eval
[(qq[POST /api/payments/capture/{A}
{"merchantId":"M1","amount":400,"idempotencyKey":"i20"}]) x 2]
--- error_code eval
[200, 200]
--- response_body_filters eval
\&PaymentTest::same
--- response_body eval
["A PARTIALLY_CAPTURED 1000 KRW, captured 400, refunded 0\n", "same\n"]



=== one key is one operation on one payment
--- init
PaymentTest::given(A => { amount => 1000, idempotencyKey => 'i21' });
PaymentTest::given(B => { amount => 1000 });
--- request eval
[qq[POST /api/payments/capture/{A}
{"merchantId":"M1","amount":400,"idempotencyKey":"i21-c"}],
 qq[POST /api/payments/capture/{B}
{"merchantId":"M1","amount":400,"idempotencyKey":"i21-c"}],
 qq[POST /api/payments/void/{B}
{"merchantId":"M1","idempotencyKey":"i21"}]]
--- error_code eval
[200, 422, 422]



=== a capture by 20 clients at once with one key happens once
--- init
PaymentTest::given(A => { amount => 1000 });
--- request
GET /status
--- response_body_filters eval
sub {
    my @a = PaymentTest::http_at_once(20, 'POST',
        '/api/payments/capture/' . PaymentTest::id_of('A'),
        '{"merchantId":"M1","amount":40,"idempotencyKey":"i22"}');
    my %body = map { $_->[2] => 1 } grep { $_->[0] eq '200' } @a;
    my $other = grep { $_->[0] !~ /^(?:200|409)$/ } @a;
    return keys(%body) . " body, $other other answers\n"
           . PaymentTest::kept(PaymentTest::id_of('A'));
}
--- response_body
1 body, 0 other answers
row: M1 PARTIALLY_CAPTURED 1000 KRW, captured 40, refunded 0, version 2
events: authorized, captured



=== a conflict is not remembered under its key
--- init
PaymentTest::given(A => { amount => 1000 });
--- request eval
[qq[POST /api/payments/refund/{A}
{"merchantId":"M1","reason":"early","idempotencyKey":"i23"}],
 qq[POST /api/payments/capture/{A}
{"merchantId":"M1"}],
 qq[POST /api/payments/refund/{A}
{"merchantId":"M1","reason":"early","idempotencyKey":"i23"}]]
--- error_code eval
[409, 200, 200]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["409 REFUND_CONFLICT, of A\n", "A CAPTURED 1000 KRW, captured 1000, refunded 0\n",
 "A REFUNDED 1000 KRW, captured 1000, refunded 1000\n"]



=== what was refused was not remembered: the same key, done right
--- request eval
[main::authorize('i24', -1), main::authorize('i24', 1000)]
--- error_code eval
[400, 200]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["400 INVALID_REQUEST amount\n", "P1 AUTHORIZED 1000 KRW, captured 0, refunded 0\n"]



=== rules that became tighter do not refuse the repeat of what was done
--- config
    location /api/payments { payment_api; }
    location /strict {
        payment_max_amount 5;
        payment_currencies USD;
        payment_unknown_members refuse;
        payment_api;
    }
--- request eval
my $more = '"order":{"id":1}}';
my @all = map { my $m = main::authorize('i25'); $m =~ s/}$/,$more/;
                $m =~ s/payments/$_/r } 'payments', 'strict';
s!/api/strict!/strict! for @all;
my $other = main::authorize('i25', 1001) =~ s!/api/payments!/strict!r;
my $new = main::authorize('i26') =~ s!/api/payments!/strict!r;
[@all, $other, $new, main::authorize('i26'), $new]
--- error_code eval
[200, 200, 422, 400, 200, 200]
--- response_headers eval
["! Idempotent-Replayed", "Idempotent-Replayed: true",
 ("! Idempotent-Replayed") x 3, "Idempotent-Replayed: true"]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[("P1 AUTHORIZED 1000 KRW, captured 0, refunded 0\n") x 2,
 "422 IDEMPOTENCY_KEY_REUSED\n", "400 INVALID_REQUEST amount\n",
 ("P2 AUTHORIZED 1000 KRW, captured 0, refunded 0\n") x 2]



=== nor the repeat of a change, and without a key there is no repeat
--- config
    location /api/payments { payment_api; }
    location /strict { payment_unknown_members refuse; payment_api; }
--- init
PaymentTest::given(A => { amount => 1000 });
--- request eval
my $change = qq[capture/{A}\n{"merchantId":"M1","amount":1,"x":1];
["POST /api/payments/$change,\"idempotencyKey\":\"i27\"}",
 "POST /strict/$change,\"idempotencyKey\":\"i27\"}",
 "POST /strict/$change,\"idempotencyKey\":\"i28\"}",
 "POST /strict/$change}",
 "GET /api/payments/{A}?merchantId=M1"]
--- error_code eval
[200, 200, 400, 400, 200]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[("A PARTIALLY_CAPTURED 1000 KRW, captured 1, refunded 0\n") x 2,
 ("400 INVALID_REQUEST x\n") x 2,
 "A PARTIALLY_CAPTURED 1000 KRW, captured 1, refunded 0\n"]



=== beside others in one batch, and twice in one packet
--- config
    location /api/payments { payment_api; }
    location /strict { payment_max_amount 5; payment_api; }
--- pipelined_requests eval
my $strict = sub { main::authorize(@_) =~ s!/api/payments!/strict!r };
[main::authorize('i29'), $strict->('i29'), $strict->('i30'),
 main::authorize('i30'), $strict->('i30'), main::authorize('i31')]
--- error_code eval
[200, 200, 400, 200, 200, 200]
