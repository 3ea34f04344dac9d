# The database is away, or is not ours: nginx starts, says so, answers 503 with
# Retry-After, and goes on by itself when the database is back.

use lib 't/lib';
use PaymentTest;
use Test::Nginx::Socket 'no_plan';

# A shard whose server can be taken away: a link to the real socket.

sub shard {
    my (%other) = @_;
    my %line = (
        server      => 'unix:$TEST_NGINX_PAYMENT_DB_LINK',
        database    => '$TEST_NGINX_PAYMENT_DB_NAME',
        user        => '$TEST_NGINX_PAYMENT_DB_USER',
        password    => '$TEST_NGINX_PAYMENT_DB_PASSWORD',
        slots       => '0-1023',
        %other,
    );

    return "payment_shard main {\n"
           . join('', map { "    $_ $line{$_};\n" } sort keys %line) . "}\n";
}

sub authorize {
    my ($key) = @_;

    return "POST /api/payments/authorize\n{\"merchantId\":\"M1\","
           . "\"amount\":1000,\"currency\":\"KRW\",\"idempotencyKey\":\"$key\"}";
}


# Asks until the answer is another: says which, or gives up.

sub recovers {
    my ($key) = @_;
    my (undef, $body) = split /\n/, authorize($key), 2;
    my $code;

    PaymentTest::await {
        ($code) = PaymentTest::http('POST', '/api/payments/authorize', $body);
        $code eq '200';
    };

    return "recovered: $code\n";
}

sub spoil_schema {
    PaymentTest::sql("UPDATE payment_schema_version
                      SET version = 999, kind = 'contract'
                      ORDER BY version DESC LIMIT 1", $main::wrong_version);
}

our $wrong_version = PaymentTest::database() . '_wrong';
our $empty = PaymentTest::database() . '_empty';

our ($left, $right) = map { PaymentTest::database() . "_$_" } qw(left right);

PaymentTest::new_database($_) for $wrong_version, $left, $right;
PaymentTest::identify($left, 'left', '0-511');
PaymentTest::identify($right, 'right', '512-1023');
PaymentTest::sql("CREATE DATABASE $empty", '');

run_tests();

__DATA__

=== away at the start: 503 at once, with Retry-After
--- http_config eval: main::shard()
--- post_setup_server_root
PaymentTest::database_away();
--- request eval
main::authorize('u1')
--- error_code: 503
--- response_headers_like
Retry-After: [1-9]\d*
Content-Type: application/problem\+json
Cache-Control: no-store
--- response_body_filters eval
\&PaymentTest::told
--- response_body
503 SERVICE_UNAVAILABLE



=== which is said once in the log, not at every request
--- http_config eval: main::shard()
--- post_setup_server_root
PaymentTest::database_away();
--- log_level: error
--- request eval
[map { main::authorize("u2-$_") } 1 .. 5]
--- error_code eval
[(503) x 5]
--- response_body_filters eval
my $n = 0;
sub {
    return '' if ++$n < 5;
    my $log = PaymentTest::read_file(Test::Nginx::Socket->can('server_root')->() . '/logs/error.log');
    my $lines = () = $log =~ /payment.*main/g;
    return $lines >= 1 && $lines <= 2 ? 'said' : "said $lines times";
}
--- response_body eval
['', '', '', '', 'said']
--- no_error_log
[alert]



=== and names what, where and why, and no secret
--- http_config eval: main::shard(password => 'hunter2')
--- post_setup_server_root
PaymentTest::database_away();
--- request eval
main::authorize('u3')
--- error_code: 503
--- error_log eval
[qr/\[(?:warn|error|crit)\].*payment.*(?:db\.sock|main)/]
--- no_error_log
hunter2



=== away at the start, then there
--- http_config eval: main::shard()
--- post_setup_server_root
PaymentTest::database_away();
--- request eval
[main::authorize('u4-a'), 'GET /status']
--- error_code eval
[503, 200]
--- response_body_filters eval
[[\&PaymentTest::told],
 [sub { PaymentTest::database_back(); main::recovers('u4-b') }]]
--- response_body eval
["503 SERVICE_UNAVAILABLE\n", "recovered: 200\n"]
--- no_error_log
[alert]



=== gone in between, then there again, and nothing was lost
--- http_config eval: main::shard()
--- request eval
[main::authorize('u5-a'), main::authorize('u5-b'), main::authorize('u5-a')]
--- error_code eval
[200, 503, 200]
--- response_headers eval
["! Retry-After", "Content-Type: application/problem+json", "Idempotent-Replayed: true"]
--- response_body_filters eval
[[sub { PaymentTest::database_away(); PaymentTest::told(shift) }],
 [sub { PaymentTest::database_back(); main::recovers('u5-c'); PaymentTest::told(shift) }],
 [\&PaymentTest::told]]
--- response_body eval
["P1 AUTHORIZED 1000 KRW, captured 0, refunded 0\n", "503 SERVICE_UNAVAILABLE\n",
 "P1 AUTHORIZED 1000 KRW, captured 0, refunded 0\n"]
--- no_error_log
[alert]



=== what was answered 503 was not done
--- http_config eval: main::shard()
--- init
PaymentTest::database_away();
--- request eval
main::authorize('u6')
--- error_code: 503
--- response_body_filters eval
sub {
    PaymentTest::database_back();
    my (undef, $body) = CORE::split /\n/, main::authorize('u6'), 2;
    my $replayed;
    PaymentTest::await {
        my ($code, $headers) = PaymentTest::http('POST', '/api/payments/authorize', $body);
        $replayed = $headers =~ /Idempotent-Replayed/ ? 'replayed' : 'new';
        $code eq '200';
    };
    return $replayed . "\n";
}
--- response_body
new



=== every operation, not only authorize
--- http_config eval: main::shard()
--- init
PaymentTest::given(A => {});
PaymentTest::database_away();
--- request eval
["GET /api/payments/{A}?merchantId=M1",
 map { "POST /api/payments/$_/{A}\n" . '{"merchantId":"M1","reason":"r"}' }
     qw( capture refund void )]
--- error_code eval
[(503) x 4]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[("503 SERVICE_UNAVAILABLE\n") x 4]



=== what is wrong with a request is told all the same
--- http_config eval: main::shard()
--- post_setup_server_root
PaymentTest::database_away();
--- request eval
["POST /api/payments/authorize\n{}", "GET /api/payments/x?merchantId=M1"]
--- error_code eval
[400, 404]



=== the status page is there, and says so
--- http_config eval: main::shard()
--- post_setup_server_root
PaymentTest::database_away();
--- request
GET /status



=== a schema that is not ours: 503, and an error that says so
--- http_config eval: main::shard(database => $main::wrong_version)
--- post_setup_server_root
main::spoil_schema();
--- request eval
main::authorize('u10')
--- error_code: 503
--- response_headers_like
Retry-After: [1-9]\d*
--- response_body_filters eval
\&PaymentTest::told
--- response_body
503 SERVICE_UNAVAILABLE
--- error_log eval
[qr/\[(?:error|crit)\].*schema.*999/]
--- no_error_log
[alert]



=== put right, it is taken without a restart
--- http_config eval: main::shard(database => $main::wrong_version)
--- post_setup_server_root
main::spoil_schema();
--- request eval
main::authorize('u11')
--- error_code: 503
--- response_body_filters eval
sub {
    PaymentTest::sql('DELETE FROM payment_schema_version', $main::wrong_version);
    PaymentTest::sql('INSERT INTO payment_schema_version (version, description)
                      SELECT version, description FROM ' . PaymentTest::database()
                     . '.payment_schema_version', $main::wrong_version);
    return main::recovers('u11');
}
--- response_body
recovered: 200



=== a database without our tables
--- http_config eval: main::shard(database => $main::empty)
--- request eval
main::authorize('u12')
--- error_code: 503
--- error_log eval
[qr/\[(?:error|crit)\].*schema/]
--- no_error_log
[alert]



=== a database that is not there
--- http_config eval: main::shard(database => 'payment_nowhere')
--- request eval
main::authorize('u13')
--- error_code: 503
--- error_log eval
[qr/\[(?:warn|error|crit)\].*payment_nowhere/]



=== a wrong password, which is not repeated
--- http_config eval: main::shard(password => 'hunter2')
--- request eval
main::authorize('u14')
--- error_code: 503
--- error_log eval
[qr/\[(?:warn|error|crit)\].*(?:1045|Access denied)/]
--- no_error_log
hunter2



=== the second server of a shard, when the first is away
--- http_config eval: main::shard(server => 'unix:$TEST_NGINX_PAYMENT_DB_LINK; server 127.0.0.1:$TEST_NGINX_PAYMENT_DB_PORT')
--- post_setup_server_root
PaymentTest::database_away();
--- request
GET /status
--- response_body_filters eval
sub { main::recovers('u15') }
--- response_body
recovered: 200



=== over TCP, by address and by name
--- http_config eval
(my $a = main::shard(server => '127.0.0.1:$TEST_NGINX_PAYMENT_DB_PORT', slots => '0-511', database => $main::left)) =~ s/main/left/;
(my $n = main::shard(server => 'localhost:$TEST_NGINX_PAYMENT_DB_PORT', slots => '512-1023', database => $main::right)) =~ s/main/right/;
$a . $n
--- request eval
[map { qq[POST /api/payments/authorize
{"merchantId":"$_","amount":1000,"currency":"KRW","idempotencyKey":"u16-$_"}] } 'M1', '123456789', 'A', 'B']
--- error_code eval
[(200) x 4]



=== one shard away: only its merchants are told so
--- http_config eval
(my $there = main::shard(slots => '0-511', server => 'unix:$TEST_NGINX_PAYMENT_DB_SOCKET', database => $main::left)) =~ s/main/left/;
(my $away = main::shard(slots => '512-1023', database => $main::right)) =~ s/main/right/;
$there . $away
--- post_setup_server_root
PaymentTest::database_away();
--- request eval
# CRC-32 modulo 1024: of "123456789" 294, of "M1" 909
[map { qq[POST /api/payments/authorize
{"merchantId":"$_","amount":1000,"currency":"KRW","idempotencyKey":"u17"}] } '123456789', 'M1', '123456789']
--- error_code eval
[200, 503, 200]



=== a commit that does not come: 504, and the key has the answer later
--- http_config eval
main::shard(server => 'unix:$TEST_NGINX_PAYMENT_DB_SOCKET') . 'payment_timeout 500ms;'
--- request eval
main::authorize('u18')
--- init
PaymentTest::lock_tables('payment WRITE');
--- error_code: 504
--- response_headers_like
Retry-After: [1-9]\d*
Cache-Control: no-store
--- response_body_filters eval
sub {
    my $told = PaymentTest::told(shift);
    PaymentTest::unlock_tables();
    return $told . main::recovers('u18');
}
--- response_body
504 OUTCOME_UNKNOWN
recovered: 200
