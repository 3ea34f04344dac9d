# payment_outbox_admin: what it shows, what it changes, what it refuses; with a
# real outbox, so that a change is seen in Kafka.

use lib 't/lib';
use PaymentTest kafka => 1;
use Test::Nginx::Socket 'no_plan';

use Encode;

our $config = <<'END';
    location /api/payments { payment_api; }
    location = /status { payment_status; }
    location = /outbox { payment_outbox_admin; }
END

our $closed = <<'END';
    location = /status { payment_status; }
    location = /outbox { deny all; payment_outbox_admin; }
END

our $off = <<'END';
    payment_outbox off;
END

our $no_breaker = <<'END';
    payment_kafka_brokers 127.0.0.1:$TEST_NGINX_PAYMENT_KAFKA_PORT;
    payment_kafka_topic $TEST_NGINX_PAYMENT_TOPIC;
    payment_breaker off;
END

our $away = <<'END';
    payment_shard main {
        server unix:$TEST_NGINX_PAYMENT_DB_LINK;
        database $TEST_NGINX_PAYMENT_DB_NAME;
        user $TEST_NGINX_PAYMENT_DB_USER;
        password $TEST_NGINX_PAYMENT_DB_PASSWORD;
    }
    payment_outbox off;
END

our $far = 1_000_000_000;       # above every id that outbox_event gives


sub json {
    return JSON::PP::decode_json(shift);
}

sub post {
    my ($action) = @_;
    my ($code, undef, $body) = PaymentTest::http('POST', '/outbox',
                                                 $action =~ /^\{/ ? $action
                                                 : qq[{"action":"$action"}]);

    return ($code, $body);
}

sub state {
    my ($breaker, $paused) = @{json(shift)}{qw( breaker outbox )};

    return "$breaker->{state}, "
           . ($paused->{paused} ? 'paused' : 'not paused') . "\n";
}


# Dead letters, made by hand: events that somebody might have published.

sub dead {
    my ($label, %letter) = @_;
    my $payment = PaymentTest::id_of($label);
    my $n = 0;

    for my $version (@{$letter{versions}}) {
        my $id = $letter{id} + $n++;
        my $reason = $letter{reason} // 'too large';

        PaymentTest::sql(<<"END");
INSERT INTO outbox_dead (id, aggregatetype, aggregateid, type, merchant_id,
    version, created_at, traceparent, payload, reason, attempts, dead_at)
VALUES ($id, 'payment', '$payment', 'captured', 'M1',
    $version, '2026-01-02 03:04:05.678901', NULL,
    '{"paymentId":"$payment","version":$version,"played":{}}',
    '$reason', 5, '2026-01-02 03:04:06.789')
END
    }

    return '';
}

sub forget_dead {
    PaymentTest::sql('DELETE FROM outbox_dead');
}

sub letters {
    my (@shards) = @{json(shift)->{dead_letters}};

    return join '', map {
        my $shard = $_;

        (map { "$_->{id} version $_->{version}\n" } @{$shard->{events}}),
        "$shard->{shard}: " . ($shard->{more} ? 'more' : 'all')
        . ($shard->{error} ? ", but $shard->{error}" : '') . "\n";
    } @shards;
}

sub dead_count {
    my $count = PaymentTest::sql('SELECT COUNT(*) FROM outbox_dead');

    chomp $count;
    return $count;
}

sub versions_in_kafka {
    my ($label, $wanted) = @_;

    return join ' ', map { json($_->[1])->{version} }
           PaymentTest::events_in_kafka(PaymentTest::id_of($label), $wanted);
}

sub authorize {
    my ($key) = @_;

    return (PaymentTest::http('POST', '/api/payments/authorize',
        qq[{"merchantId":"M1","amount":1,"currency":"KRW","idempotencyKey":"$key"}]
        ))[2];
}


sub relay {
    return json((PaymentTest::http('GET', '/status'))[2])
           ->{outbox}{shards}[0];
}


# Nothing is left of the blocks before, and the lease is ours.

sub ready {
    goes();
    PaymentTest::await { relay()->{lease_held} };
}


# An event that must not be published for now: whether it is still there when
# the outbox had many chances, and whether it goes once it may.

sub stays {
    my $before = relay()->{published};
    my $end = time + 2;

    # the poll interval is 50 ms; what is to be seen is that nothing happens
    PaymentTest::await { time >= $end };

    return 'queued ' . PaymentTest::outbox_count()
           . (relay()->{published} == $before ? ', nothing published'
                                              : ', published') . "\n";
}

sub goes {
    PaymentTest::await { PaymentTest::outbox_count() == 0 };

    return 'queued ' . PaymentTest::outbox_count() . "\n";
}

sub after_post {
    my ($action) = @_;
    my ($code, $body) = post($action);

    return "$action: $code " . ($code eq '200' ? state($body) : "$body\n");
}

sub hold_and_release {
    my ($key, $hold, $release) = @_;

    ready();

    my $first = after_post($hold);

    authorize($key);

    return $first . stays() . after_post($release) . goes();
}

sub replays {
    my ($label, $what, $wanted) = @_;

    ready();

    my ($code, $body) = post($what);
    my $json = json($body);

    return "$code, " . ($json->{replayed_payments} // $json->{detail})
           . ' payments, dead ' . dead_count() . ', published '
           . versions_in_kafka($label, $wanted) . "\n";
}

run_tests();

__DATA__

=== the state
--- config eval: $main::config
--- init
main::forget_dead();
--- request
GET /outbox
--- response_headers
Content-Type: application/json
Cache-Control: no-store
--- response_body_filters eval
sub { main::state($_[0]) . main::letters($_[0]) }
--- response_body
CLOSED, not paused
main: all



=== other methods
--- config eval: $main::config
--- request eval
["HEAD /outbox", "DELETE /outbox", "PUT /outbox\n{}"]
--- error_code eval
[200, 405, 405]
--- response_headers eval
["Content-Type: application/json", "Allow: GET, HEAD, POST", "Allow: GET, HEAD, POST"]
--- response_body_like eval
['^$', 'METHOD_NOT_ALLOWED', 'METHOD_NOT_ALLOWED']



=== access is nginx's to decide
--- config eval: $main::closed
--- request eval
["GET /outbox", "POST /outbox\n{\"action\":\"pause\"}"]
--- error_code eval
[403, 403]
--- response_headers_like eval
["Content-Type: text/html", "Content-Type: text/html"]
--- error_log
access forbidden by rule



=== a change comes as application/json
--- config eval: $main::config
--- request
POST /outbox
action=pause
--- more_headers
Content-Type: application/x-www-form-urlencoded
--- error_code: 415
--- response_body_filters eval
\&PaymentTest::told
--- response_body
415 UNSUPPORTED_MEDIA_TYPE



=== wrong bodies
--- config eval: $main::config
--- request eval
[map { "POST /outbox\n$_" }
 '[]', '{', 'pause', '{"action":"pause","action":"resume"}',
 '{}', '{"action":1}', '{"action":"fly"}', '{"action":"PAUSE"}',
 '{"action":"pause","shard":"main"}',
 '{"action":"replay"}', '{"action":"replay","shard":1}',
 '{"action":"replay","shard":"main","id":"1"}',
 '{"action":"replay","shard":"main","id":0}',
 '{"action":"replay","shard":"main","id":-1}',
 '{"action":"replay","shard":"main","id":281474976710656}',
 '{"action":"replay","shard":"main","all":true}',
 '{"action":"replay","shard":"other"}']
--- error_code eval
[(400) x 16, 404]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[("400 INVALID_REQUEST\n") x 4,
 ("400 INVALID_REQUEST action\n") x 4,
 "400 INVALID_REQUEST\n",
 ("400 INVALID_REQUEST shard\n") x 2,
 ("400 INVALID_REQUEST id\n") x 4,
 "400 INVALID_REQUEST\n",
 "404 NOT_FOUND shard\n"]



=== no body, and too much of it
--- config eval: $main::config
--- request eval
["POST /outbox\n", "POST /outbox\n" . '{"action":"' . 'x' x 4096 . '"}']
--- error_code eval
[400, 413]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["400 INVALID_REQUEST\n", "413 PAYLOAD_TOO_LARGE\n"]



=== a chunked body
--- config eval: $main::config
--- raw_request eval
["POST /outbox HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
 . "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
 . "9\r\n{\"action\"\r\n",
 "a\r\n:\"resume\"}\r\n0\r\n\r\n"]
--- response_body_filters eval
\&main::state
--- response_body
CLOSED, not paused



=== pause holds events back, resume lets them go
--- config eval: $main::config
--- request
GET /status
--- response_body_filters eval
sub { main::hold_and_release('a8', 'pause', 'resume') }
--- response_body
pause: 200 CLOSED, paused
queued 1, nothing published
resume: 200 CLOSED, not paused
queued 0



=== so does the breaker, forced open
--- config eval: $main::config
--- request
GET /status
--- response_body_filters eval
sub { main::hold_and_release('a9', 'breaker-force-open', 'breaker-close') }
--- response_body
breaker-force-open: 200 FORCED_OPEN, not paused
queued 1, nothing published
breaker-close: 200 CLOSED, not paused
queued 0



=== reset and disable
--- config eval: $main::config
--- request
GET /status
--- response_body_filters eval
sub {
    CORE::join '', map { main::after_post($_) }
    qw( breaker-disable breaker-reset breaker-force-open breaker-disable
        breaker-close )
}
--- response_body
breaker-disable: 200 DISABLED, not paused
breaker-reset: 200 CLOSED, not paused
breaker-force-open: 200 FORCED_OPEN, not paused
breaker-disable: 200 DISABLED, not paused
breaker-close: 200 CLOSED, not paused



=== a change is in the log
--- config eval: $main::config
--- request
POST /outbox
{"action":"breaker-reset"}
--- response_body_like: "action":"breaker-reset"
--- error_log
payment: outbox admin: breaker-reset done, client: 127.0.0.1



=== pause outlives the process that it was said to
--- config eval: $main::config
--- request eval
["POST /outbox\n{\"action\":\"pause\"}", "GET /outbox",
 "POST /outbox\n{\"action\":\"resume\"}"]
--- error_code eval
[200, 200, 200]
--- response_body_filters eval
\&main::state
--- response_body eval
["CLOSED, paused\n", "CLOSED, paused\n", "CLOSED, not paused\n"]



=== without an outbox: pause is for when there is one, the rest fails
--- http_config eval: $main::off
--- config eval: $main::config
--- request eval
[map { "POST /outbox\n{\"action\":\"$_\"}" } 'pause', 'breaker-close', 'resume']
--- error_code eval
[200, 503, 200]
--- response_body_like eval
['"enabled":false,"up":false', 'there is no helper process here', '"paused":false']



=== without a breaker
--- http_config eval: $main::no_breaker
--- config eval: $main::config
--- request
POST /outbox
{"action":"breaker-reset"}
--- error_code: 400
--- response_body_filters eval
\&PaymentTest::told
--- response_body
400 INVALID_REQUEST action



=== dead letters, as they are shown
--- config eval: $main::config
--- init
main::forget_dead();
PaymentTest::given(A => {});
main::dead('A', id => $main::far, versions => [2], reason => 'a "b" \\\\ ä');
--- request
GET /outbox
--- response_body_filters eval
sub {
    my $letter = main::json(shift)->{dead_letters}[0]{events}[0];
    $letter->{paymentId} = $letter->{paymentId} eq PaymentTest::id_of('A') ? 'A' : 'other';
    return CORE::join '', map { "$_: " . Encode::encode_utf8($letter->{$_}) . "\n" } sort keys %$letter;
}
--- response_body
attempts: 5
createdAt: 2026-01-02T03:04:05.678901Z
deadAt: 2026-01-02T03:04:06.789000Z
id: 1000000000
merchantId: M1
paymentId: A
reason: a "b" \ ä
type: captured
version: 2



=== dead letters, page by page
--- config eval: $main::config
--- init
main::forget_dead();
PaymentTest::given(A => {});
main::dead('A', id => $main::far, versions => [2 .. 6]);
--- request eval
["GET /outbox?shard=main&limit=2", "GET /outbox?limit=2&after=1000000001",
 "GET /outbox?limit=2&after=1000000003", "GET /outbox?limit=5", "GET /outbox?after=9999999999"]
--- error_code eval
[(200) x 5]
--- response_body_filters eval
\&main::letters
--- response_body eval
["1000000000 version 2\n1000000001 version 3\nmain: more\n",
 "1000000002 version 4\n1000000003 version 5\nmain: more\n",
 "1000000004 version 6\nmain: all\n",
 "1000000000 version 2\n1000000001 version 3\n1000000002 version 4\n"
 . "1000000003 version 5\n1000000004 version 6\nmain: all\n",
 "main: all\n"]



=== wrong arguments
--- config eval: $main::config
--- request eval
[map { "GET /outbox?$_" } qw( limit=0 limit=1001 limit=x after=-1 after=x
                              after=99999999999999999999 shard=other shard=
                              limit=1&limit=1 after=1&aft%65r=2
                              shard=main&shard=main )]
--- error_code eval
[(400) x 6, 404, 404, (400) x 3]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[("400 INVALID_REQUEST limit\n") x 3, ("400 INVALID_REQUEST after\n") x 3,
 ("404 NOT_FOUND shard\n") x 2,
 map { "400 INVALID_REQUEST $_\n" } qw( limit after shard )]



=== a dead letter is replayed, with the others of its payment, in order
--- config eval: $main::config
--- init
main::forget_dead();
PaymentTest::given(A => {});
main::dead('A', id => $main::far + 100, versions => [2 .. 4]);
--- request
GET /status
--- response_body_filters eval
sub { main::replays('A', '{"action":"replay","shard":"main","id":1000000101}', 4) }
--- response_body
200, 1 payments, dead 0, published 1 2 3 4



=== one that is not there
--- config eval: $main::config
--- init
main::ready();
--- request
POST /outbox
{"action":"replay","shard":"main","id":12345}
--- error_code: 404
--- response_body_filters eval
\&PaymentTest::told
--- response_body
404 NOT_FOUND id



=== all of a shard's
--- config eval: $main::config
--- init
main::forget_dead();
PaymentTest::given(A => {});
PaymentTest::given(B => {});
main::dead('A', id => $main::far + 200, versions => [2, 3]);
main::dead('B', id => $main::far + 210, versions => [2]);
--- request
GET /status
--- response_body_filters eval
sub {
    main::replays('A', '{"action":"replay","shard":"main"}', 3)
    . 'B: ' . main::versions_in_kafka('B', 2) . "\n"
    . main::replays('B', '{"action":"replay","shard":"main"}', 2)
}
--- response_body
200, 2 payments, dead 0, published 1 2 3
B: 1 2
200, 0 payments, dead 0, published 1 2



=== the database is away: the state is told all the same
--- http_config eval: $main::away
--- config eval: $main::config
--- init
PaymentTest::database_away();
--- request eval
["GET /outbox", "POST /outbox\n{\"action\":\"replay\",\"shard\":\"main\"}"]
--- error_code eval
[200, 503]
--- response_body_filters eval
[[\&main::letters], [\&PaymentTest::told]]
--- response_body eval
["main: all, but the database is away\n", "503 SERVICE_UNAVAILABLE\n"]
--- no_error_log
[alert]



=== two commands at once: each is carried out, or told to wait
--- config eval: $main::config
--- request
GET /status
--- response_body_filters eval
sub {
    my @codes = map { $_->[0] }
        PaymentTest::http_at_once(8, 'POST', '/outbox', '{"action":"breaker-reset"}');
    my %n;
    $n{$_}++ for @codes;
    return ($n{200} // 0) >= 1 && ($n{200} + ($n{503} // 0)) == 8 ? "fair\n" : "@codes\n";
}
--- response_body
fair
