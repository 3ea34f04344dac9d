# payment_authorization_lifetime: what answers say of an authorization that
# ends, and what is refused when it has. Nobody sweeps here: t/fault/
# test_expiry.py is about that.

use lib 't/lib';
use JSON::PP;
use PaymentTest;
use Test::Nginx::Socket 'no_plan';

# seconds from createdAt to expiresAt, or none
sub lifetime {
    my ($body) = @_;
    my $json = JSON::PP::decode_json($body);

    return "$json->{code}\n" if exists $json->{code};
    return "none\n" if !exists $json->{expiresAt};

    my @at = map { PaymentTest::sql("SELECT UNIX_TIMESTAMP('$_')") }
        map { s/T/ /r =~ s/Z//r } $json->{createdAt}, $json->{expiresAt};

    return sprintf "%.3f\n", $at[1] - $at[0];
}

# as if all had been authorized so long ago
sub age {
    my ($seconds) = @_;

    PaymentTest::sql("UPDATE payment SET expires_at = expires_at
                      - INTERVAL $seconds SECOND");
    return '';
}

run_tests();

__DATA__

=== a lifetime, none, and one by a variable
--- http_config
    map $payment_currency $lifetime {
        KRW      90s;
        USD      7d;
        JPY      "";
        GBP      0;
        default  1h;
    }
    payment_authorization_lifetime 2h;
--- config
    location /api/payments { payment_api; }
    location /never { payment_api; payment_authorization_lifetime 0; }
    location /by { payment_api; payment_authorization_lifetime $lifetime; }
--- request eval
my $of = sub {
    my ($at, $currency, $key) = @_;
    "POST $at/authorize\n"
    . qq({"merchantId":"M1","amount":5,"currency":"$currency",)
    . qq("idempotencyKey":"expiry-$$-$key"})
};
[$of->('/api/payments', 'KRW', 1), $of->('/never', 'KRW', 2),
 $of->('/by', 'KRW', 3), $of->('/by', 'USD', 4), $of->('/by', 'JPY', 5),
 $of->('/by', 'GBP', 7), $of->('/by', 'CHF', 8)]
--- response_body_filters eval
\&main::lifetime
--- response_body eval
["7200.000\n", "none\n", "90.000\n", "604800.000\n", "none\n", "none\n",
 "3600.000\n"]



=== what is no time is logged, and means never
--- http_config
    payment_authorization_lifetime $http_x_lifetime;
--- more_headers
Content-Type: application/json
X-Lifetime: soon
--- request eval
"POST /api/payments/authorize\n"
. qq({"merchantId":"M1","amount":5,"currency":"KRW","idempotencyKey":"no-$$"})
--- response_body_filters eval
\&main::lifetime
--- response_body
none
--- error_log
"soon" in "payment_authorization_lifetime" is no time



=== every answer tells it, to the letter
--- http_config
    payment_authorization_lifetime 1h;
--- init
PaymentTest::given(A => { idempotencyKey => "letter-$$" },
                   capture => { amount => 300 });
--- request eval
["GET /api/payments/{A}?merchantId=M1",
 "POST /api/payments/refund/{A}\n" . '{"merchantId":"M1","reason":"x"}',
 "GET /api/payments?merchantId=M1&idempotencyKey=letter-$$"]
--- error_code eval
[200, 200, 200]
--- response_body_like eval
[(qr/"createdAt":"([^"]{11})[^"]+Z","expiresAt":"[^"]{23}Z","/) x 3]



=== a replay is the first answer, also after the end
--- http_config
    payment_authorization_lifetime 1h;
--- init
PaymentTest::given(A => {}, capture => { amount => 300,
                                         idempotencyKey => "again-$$" });
main::age(7200);
--- request eval
["POST /api/payments/capture/{A}\n"
 . qq({"merchantId":"M1","amount":300,"idempotencyKey":"again-$$"}),
 "POST /api/payments/capture/{A}\n"
 . qq({"merchantId":"M1","amount":301,"idempotencyKey":"other-$$"})]
--- error_code eval
[200, 409]
--- response_body_like eval
[qr/PARTIALLY_CAPTURED/, qr/AUTHORIZATION_EXPIRED/]



=== captures and voids of what is overdue, and of what is not
--- http_config
    payment_authorization_lifetime 1h;
    payment_void_remainder on;
--- init
PaymentTest::given(A => {});
PaymentTest::given(B => {}, capture => { amount => 300 });
PaymentTest::given(C => {}, capture => {});
PaymentTest::given(D => {}, void => {});
main::age(3601);
PaymentTest::given(E => {});
--- request eval
my $call = sub {
    "POST /api/payments/$_[0]/{$_[1]}\n"
    . '{"merchantId":"M1","reason":"x"}'
};
[$call->('capture', 'A'), $call->('void', 'A'), $call->('refund', 'A'),
 $call->('capture', 'B'), $call->('void', 'B'),
 $call->('capture', 'C'), $call->('capture', 'D'),
 $call->('refund', 'B'), $call->('refund', 'C'),
 $call->('capture', 'E')]
--- error_code eval
[409, 409, 409, 409, 409, 409, 409, 200, 200, 200]
--- response_body_filters eval
\&PaymentTest::told
--- response_body_like eval
[qr/^409 AUTHORIZATION_EXPIRED, of A$/, qr/^409 AUTHORIZATION_EXPIRED, of A$/,
 qr/^409 REFUND_CONFLICT, of A$/, qr/^409 AUTHORIZATION_EXPIRED, of B$/,
 qr/^409 AUTHORIZATION_EXPIRED, of B$/, qr/^409 CAPTURE_CONFLICT, of C$/,
 qr/^409 CAPTURE_CONFLICT, of D$/, qr/REFUNDED/, qr/REFUNDED/, qr/CAPTURED/]



=== the problem says when it was
--- http_config
    payment_authorization_lifetime 1h;
--- init
PaymentTest::given(A => {});
main::age(7200);
--- request
POST /api/payments/capture/{A}
{"merchantId":"M1"}
--- error_code: 409
--- response_body_like chomp
^\{"type":"about:blank","title":"Conflict","status":409,"detail":"the authorization expired at 20[-0-9]{8}T[:.0-9]{12}Z","code":"AUTHORIZATION_EXPIRED","message":"the authorization expired at [^"]+","paymentId":"[-0-9a-f]{36}"\}$



=== another merchant does not learn of it
--- http_config
    payment_authorization_lifetime 1h;
--- init
PaymentTest::given(A => { merchantId => 'M9' });
main::age(7200);
--- request
POST /api/payments/capture/{A}
{"merchantId":"M1"}
--- error_code: 404
--- response_body_like: NOT_FOUND



=== what has expired says so
--- http_config
    payment_authorization_lifetime 1h;
    payment_operations on;
--- init
PaymentTest::given(A => {});
main::age(7200);
PaymentTest::sql("UPDATE payment SET status = 'VOIDED', version = 2,
                  updated_at = '2026-11-22 18:12:46.123',
                  expired_at = '2026-11-22 18:12:46.123'
                  WHERE expires_at < UTC_TIMESTAMP();
                  INSERT INTO payment_operation (payment_id, version,
                  operation, status, amount, created_at)
                  SELECT id, 2, 'expire', 'VOIDED', amount, updated_at
                  FROM payment WHERE expired_at IS NOT NULL");
--- request eval
["GET /api/payments/{A}?merchantId=M1",
 "GET /api/payments/{A}/operations?merchantId=M1",
 "POST /api/payments/void/{A}\n" . '{"merchantId":"M1"}']
--- error_code eval
[200, 200, 409]
--- response_body_like eval
[qr/"status":"VOIDED",.*"expiresAt":"[^"]+Z",.*"version":2,"updatedAt":"2026-11-22T18:12:46.123Z","expiredAt":"2026-11-22T18:12:46.123Z","ledgerEntries"/,
 qr/\{"type":"expire","version":2,"status":"VOIDED","amount":1000,"createdAt":"2026-11-22T18:12:46.123Z"\}\]\}$/,
 qr/AUTHORIZATION_EXPIRED/]



=== where none is set, nothing is new
--- init
PaymentTest::given(A => {}, capture => { amount => 1 });
PaymentTest::sql("UPDATE payment SET expires_at = '2020-01-01'");
--- request eval
["GET /api/payments/{A}?merchantId=M1",
 "POST /api/payments/capture/{A}\n" . '{"merchantId":"M1"}']
--- error_code eval
[200, 200]
--- response_body_unlike eval
[(qr/expire/) x 2]
