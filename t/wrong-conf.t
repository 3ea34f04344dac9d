# `nginx -t` against configurations that are wrong: what it says to each. What
# would be an outage after a green `nginx -t` is an error, what may be meant so a
# warning, and each names what to look at. No server is needed, nor touched.

use strict;
use warnings;

use File::Temp qw( tempdir );
use Test::More;

my $nginx = $ENV{TEST_NGINX_BINARY} || 'nginx';
my $module = $ENV{TEST_NGINX_LOAD_MODULES};
my $dir = tempdir(CLEANUP => 1);

# the workers' user, where the master is root and this user is not
my $user = $> == 0 ? 'nobody ' . getgrgid((getpwnam 'nobody')[3]) : '';

if (!defined $module) {
    chomp(my $root = `pwd`);
    $module = "$root/build/ngx_http_payment_module.so";
}

chmod 0755, $dir;
mkdir "$dir/logs";


sub write_file {
    my ($name, $text, $mode) = @_;

    open my $file, '>', "$dir/$name" or die "$name: $!";
    print $file $text;
    close $file or die "$name: $!";
    chmod $mode // 0644, "$dir/$name";
}


sub openssl {
    my $said = `openssl @_ 2>&1`;
    die "openssl @_: $said" if $? != 0;
}


# OpenSSL 3.4 has options for the times, and takes no negative number of days.

sub ends_yesterday {
    return `openssl x509 -help 2>&1` =~ /-not_after/
        ? '-not_before 20200101000000Z -not_after 20200102000000Z'
        : '-days -1';
}


sub make_files {
    for my $name (qw( good other )) {
        openssl('req -x509 -newkey rsa:2048 -nodes -batch -days 2',
                "-subj /CN=$name -keyout $dir/$name.key -out $dir/$name.pem");
        chmod 0644, "$dir/$name.key";
    }

    openssl("rsa -aes128 -passout pass:secret -in $dir/good.key",
            "-out $dir/locked.key");
    openssl("req -new -batch -subj /CN=good -key $dir/good.key",
            "-out $dir/good.csr");
    openssl("x509 -req -in $dir/good.csr -signkey $dir/good.key",
            ends_yesterday(), "-out $dir/expired.pem");
    openssl("x509 -in $dir/good.pem -out $dir/private.pem");
    openssl("rsa -in $dir/good.key -out $dir/private.key");
    chmod 0644, "$dir/locked.key";
    chmod 0600, "$dir/private.pem", "$dir/private.key";

    mkdir "$dir/closed", 0700;
    openssl("x509 -in $dir/good.pem -out $dir/closed/good.pem");

    write_file('hello', "hello\n");
    write_file('empty', '');
    write_file('newline', "\n");
    write_file('bom', "\xef\xbb\xbfsecret\n");
    write_file('two-lines', "secret\nmore\n");
    write_file('long', 'x' x 1025);
    write_file('nul', "sec\0ret\n");
    write_file('password', "secret\r\n", 0600);
}


# A whole configuration. These lines stand instead of the shard's own of the same
# name; a line that begins with "-" only takes one away.

sub shard {
    my (@lines) = @_;
    my %usual = (server => '127.0.0.1:3306', database => 'payment',
                 user => 'payment', password => 'secret');
    my @more;

    for (@lines) {
        my ($without, $name) = /^(-?)(\w+)/;
        delete $usual{$name};
        push @more, $_ if !$without;
    }

    return join ' ', 'payment_shard main {',
           (map { "$_ $usual{$_};" } sort keys %usual),
           (map { "$_;" } @more), '}';
}


sub config_test {
    my ($http, $location, $events) = @_;
    my $load = $module eq '' ? '' : "load_module $module;";
    my $as = $user eq '' ? '' : "user $user;";
    my $paths = join ' ', map { "${_}_temp_path $dir/$_;" }
                              qw( client_body proxy fastcgi uwsgi scgi );

    $http =~ s/\bDIR\b/$dir/g;
    write_file('nginx.conf', <<"END");
$load
$as
pid $dir/nginx.pid;
events { @{[$events // '']} }
http {
    $paths
    payment_outbox_path $dir/outbox_temp;
    $http
    server {
        listen unix:$dir/listen;
        location /api/payments { payment_api; @{[$location // '']} }
    }
}
END

    my $said = `$nginx -t -p $dir/ -c $dir/nginx.conf -e $dir/logs/e.log 2>&1`;
    return ($?, $said);
}


make_files();

my $kafka = 'payment_kafka_brokers 127.0.0.1:9092;';
my $ssl = 'ssl on';

# what is wrong, what it says, http{}, and what else stands in the location
my @errors = (

    # --- files that are there, but not for the workers
    ['a CA that only root reads',
     qr/"\S+private\.pem" of "ssl_ca" failed for the workers' user, nobody \(13:/,
     shard($ssl, 'ssl_ca DIR/private.pem')],
    ['a CA in a directory that only root enters',
     qr/"\S+closed\/good\.pem" of "ssl_ca" failed for the workers' user/,
     shard($ssl, 'ssl_ca DIR/closed/good.pem')],
    ['a certificate that only root reads',
     qr/"\S+private\.pem" of "ssl_certificate" failed for the workers' user/,
     shard($ssl, 'ssl_certificate DIR/private.pem',
           'ssl_certificate_key DIR/good.key')],
    ['a key that only root reads',
     qr/"\S+private\.key" of "ssl_certificate_key" failed for the workers' user/,
     shard($ssl, 'ssl_certificate DIR/good.pem',
           'ssl_certificate_key DIR/private.key')],
    ['a CA of Kafka that only root reads',
     qr/"\S+private\.pem" of "ssl\.ca\.location" failed for the workers' user/,
     shard() . "$kafka payment_kafka_property security.protocol SSL;"
             . 'payment_kafka_property ssl.ca.location DIR/private.pem;'],
    ['a key of Kafka that only root reads',
     qr/"\S+private\.key" of "ssl\.key\.location" failed for the workers' user/,
     shard() . "$kafka payment_kafka_property security.protocol SSL;"
             . 'payment_kafka_property ssl.certificate.location DIR/good.pem;'
             . 'payment_kafka_property ssl.key.location DIR/private.key;'],

    # --- files that are not what they should be
    ['a CA that is not there',
     qr/"\S+nothing" of "ssl_ca" failed.*\(2: No such file/,
     shard($ssl, 'ssl_ca DIR/nothing')],
    ['a CA of Kafka that is not there',
     qr/"\S+nothing" of "ssl\.ca\.location" failed.*\(2: No such file/,
     shard() . "$kafka payment_kafka_property security.protocol SSL;"
             . 'payment_kafka_property ssl.ca.location DIR/nothing;'],
    ['a CA that is a word',
     qr/no certificate in PEM in file "\S+hello" of "ssl_ca"/,
     shard($ssl, 'ssl_ca DIR/hello')],
    ['a CA that is a key',
     qr/no certificate in PEM in file "\S+good\.key" of "ssl_ca"/,
     shard($ssl, 'ssl_ca DIR/good.key')],
    ['a CA that is empty',
     qr/no certificate in PEM in file "\S+empty" of "ssl_ca"/,
     shard($ssl, 'ssl_ca DIR/empty')],
    ['a certificate that is none',
     qr/no certificate in PEM in file "\S+hello" of "ssl_certificate"/,
     shard($ssl, 'ssl_certificate DIR/hello',
           'ssl_certificate_key DIR/good.key')],
    ['a key that is none',
     qr/no key in PEM that needs no passphrase in file "\S+hello"/,
     shard($ssl, 'ssl_certificate DIR/good.pem',
           'ssl_certificate_key DIR/hello')],
    ['a key that needs a passphrase',
     qr/no key in PEM that needs no passphrase in file "\S+locked\.key"/,
     shard($ssl, 'ssl_certificate DIR/good.pem',
           'ssl_certificate_key DIR/locked.key')],
    ['a key of another certificate',
     qr/key in file "\S+other\.key" is not that of the certificate in file "\S+good\.pem"/,
     shard($ssl, 'ssl_certificate DIR/good.pem',
           'ssl_certificate_key DIR/other.key')],
    ['a password file that is not there',
     qr/"\S+nothing" failed \(2: No such file/,
     shard('-password', 'password_file DIR/nothing')],
    ['a password file that is empty',
     qr/file "\S+empty" is empty/,
     shard('-password', 'password_file DIR/empty')],
    ['a password file with a line end only',
     qr/file "\S+newline" is empty/,
     shard('-password', 'password_file DIR/newline')],
    ['a password file with a byte order mark',
     qr/file "\S+bom" begins with a byte order mark/,
     shard('-password', 'password_file DIR/bom')],
    ['a password file with two lines',
     qr/file "\S+two-lines" has more than one line/,
     shard('-password', 'password_file DIR/two-lines')],
    ['a password file that is too long',
     qr/file "\S+long" is too long/,
     shard('-password', 'password_file DIR/long')],
    ['a password file with a NUL',
     qr/file "\S+nul" has a null character/,
     shard('-password', 'password_file DIR/nul')],

    # --- what does not go together
    ['TLS without "ssl on"', qr/"ssl_ca" without "ssl on"/,
     shard('ssl_ca DIR/good.pem')],
    ['a certificate without its key', qr/"ssl_certificate" and .* go together/,
     shard($ssl, 'ssl_certificate DIR/good.pem')],
    ['two passwords', qr/"password_file" directive is duplicate/,
     shard('password x', 'password_file DIR/password')],
    ['a retention shorter than a request may take',
     qr/"payment_idempotency_retention" \(1s\) must be longer than "payment_timeout" \(5000ms\) of location "\/api\/payments"/,
     shard() . 'payment_idempotency_retention 1s;'],
    ['a request that may take as long as the retention',
     qr/must be longer than "payment_timeout"/,
     shard() . 'payment_idempotency_retention 1m;', 'payment_timeout 60s;'],
    ['two shards in one database',
     qr/payment_shard "main" and payment_shard "b" have the same database "payment" of server "127\.0\.0\.1:3306"/,
     shard('slots 0-511')
     . (shard('slots 512-1023') =~ s/main/b/r)],
    ['two shards in one database, of the second server of one of them',
     qr/have the same database "payment" of server "db2"/,
     shard('slots 0-511', 'server db1 db2')
     . (shard('slots 512-1023', 'server DB2:3306') =~ s/main/b/r)],
    ['slots that nobody has', qr/no payment_shard has slots 1001-1023/,
     shard('slots 0-1000')],
    ['a slot that two have', qr/both have slot 500/,
     shard('slots 0-500')
     . (shard('slots 500-1023', 'database b') =~ s/main/b/r)],
    ['two shards of one name', qr/duplicate payment_shard "main"/,
     shard('slots 0-511') . shard('slots 512-1023', 'database b')],
    ['no server', qr/no "server" in payment_shard "main"/, shard('-server')],
    ['one server twice', qr/duplicate address in server "LOCALHOST:3306"/,
     shard('server localhost LOCALHOST:3306')],
    ['no database', qr/no "database" in payment_shard "main"/,
     shard('-database')],
    ['no user', qr/no "user" in payment_shard "main"/, shard('-user')],
    ['no shard', qr/no "payment_shard" is defined, but "payment_api" needs one/,
     ''],
    ['a server that is a URL', qr/in server "mysql:\/\/db" of payment_shard/,
     shard('server mysql://db')],
    ['an IPv6 address without brackets', qr/an IPv6 address needs brackets/,
     shard('server ::1')],
    ['a port that is none', qr/invalid port in server "db:99999"/,
     shard('server db:99999')],
    ['a directive that there is not',
     qr/unknown directive "hostname" in payment_shard/,
     shard('hostname x')],
    ['a dashboard without a path', qr/"status=" in "payment_dashboard" directive, it must be "status=" or "admin=" and the path of a location/,
     shard(), '} location /d { payment_dashboard status=;'],
    ['a dashboard of another server', qr/"status=\/\/elsewhere\/status" in "payment_dashboard"/,
     shard(), '} location /d { payment_dashboard status=//elsewhere/status;'],
    ['a dashboard with markup', qr/"admin=\/a\?b=<" in "payment_dashboard"/,
     shard(), '} location /d { payment_dashboard admin=/a?b=<;'],
    ['a dashboard of something else', qr/"metrics=\/metrics" in "payment_dashboard"/,
     shard(), '} location /d { payment_dashboard metrics=/metrics;'],
    ['a currency that there is not', qr/"EURO" in "payment_currencies"/,
     shard(), 'payment_currencies EURO;'],
    ['a word that is no choice',
     qr/"maybe" in "payment_idempotency_replay" directive, it must be "replay" or "conflict"/,
     shard(), 'payment_idempotency_replay maybe;'],
    ['two handlers', qr/is duplicate, or the location has another handler/,
     shard(), 'payment_status;'],
    ['an outbox without brokers',
     qr/"payment_outbox on" needs "payment_kafka_brokers"/,
     shard() . 'payment_outbox on;'],
    ['a property that there is not', qr/no property "sasl\.usernam"/,
     shard() . "$kafka payment_kafka_property sasl.usernam x;"],
    ['a Kafka password file that is not there',
     qr/"\S+nothing" failed \(2: No such file/,
     shard() . "$kafka payment_kafka_property_file sasl.password DIR/nothing;"],
    ['a Kafka password file that is empty',
     qr/file "\S+empty" is empty, it must hold one line of 1 to 1024 bytes/,
     shard() . "$kafka payment_kafka_property_file sasl.password DIR/empty;"],
    ['a Kafka password file of a property that there is not',
     qr/no property "sasl\.passwort"/,
     shard() . "$kafka payment_kafka_property_file sasl.passwort DIR/password;"],
    ['a Kafka property whose value, from a file, is none',
     qr/librdkafka refuses the value of property "linger\.ms"/,
     shard() . "$kafka payment_kafka_property_file linger.ms DIR/password;"],
    ['a broker that is none', qr/invalid broker "" in/,
     shard() . 'payment_kafka_brokers a:9092,;'],
    ['a lease that is longer at least than at most',
     qr/"payment_outbox_lock_at_least_for" must not be longer/,
     shard() . "$kafka payment_outbox_lock_at_least_for 60s;"],
    ['a batch of none', qr/"payment_batch_size" must be between 1 and 1024/,
     shard() . 'payment_batch_size 0;'],

    # --- what can never work
    ['a queue without room for the largest request',
     qr/"payment_queue_bytes" must be at least \d+, for one request with metadata/,
     shard() . 'payment_queue_bytes 1k;'],
    ['connections that are replaced before they are used',
     qr/"max_age" directive must be 0, which is never, or 50ms at least/,
     shard('max_age 1ms')],
    ['connections that may not be idle',
     qr/"idle_timeout" directive must be 0, which is never, or 50ms at least/,
     shard('idle_timeout 1ms')],
    ['fewer connections than the databases take',
     qr/"worker_connections" must be at least 68, for the "connections" of each payment_shard/,
     shard('connections 64'), '', 'worker_connections 67;'],
    ['bodies that no authorization fits into',
     qr/"payment_max_body_size" directive must be 32 at least/,
     shard(), 'payment_max_body_size 20;'],
    ['a merchant who is nobody',
     qr/"" in "payment_merchant" of location "\/api\/payments" is no merchantId/,
     shard(), 'payment_merchant "";'],
    ['a merchant, from around, whose name is too long',
     qr/in "payment_merchant" of location "\/api\/payments" is no merchantId/,
     shard() . 'payment_merchant ' . 'M' x 65 . ';'],
    ['a replica that is to confirm, and is not there',
     qr/"durability replica" needs several servers in payment_shard "main"/,
     shard('durability replica')],
    ['verification of what has no TLS',
     qr/"ssl_verify" without "ssl on" in payment_shard "main"/,
     shard('ssl_verify on')],
);

# one directive each, with a value that is none: in a shard, in http, and in the
# location of the API
push @errors, (
    map({ my ($line, $says) = @$_;
          ["\"$line\" in a shard", $says, shard($line)] }
        ['connections 65', qr/"connections" directive must be between 1 and 64/],
        ['connect_timeout 0', qr/"connect_timeout" directive must be more than 0/],
        ['installation 5b0c9a7e-0d55-4d0e-9d5a',
         qr/"installation" directive is not a UUID/],
        ['installation 5b0c9a7e-0d55-4d0e-9d5a-3c8b9f3a7cxy',
         qr/"installation" directive is not a UUID/],
        ['max_requests -1', qr/"max_requests" directive invalid number/]),

    map({ my ($line, $says) = @$_;
          ["\"$line\" in http", $says, shard() . "$kafka$line;"] }
        ['payment_batch_bytes 0', qr/"payment_batch_bytes" directive must be more/],
        ['payment_batch_spare_delay x', qr/"payment_batch_spare_delay" directive invalid/],
        ['payment_queue_size 0', qr/"payment_queue_size" must be between 1 and/],
        ['payment_queue_timeout 0', qr/"payment_queue_timeout" directive must be more/],
        ['payment_retries 101', qr/"payment_retries" must be between 0 and 100/],
        ['payment_retry_interval 0', qr/"payment_retry_interval" directive must be more/],
        ['payment_retry_max_interval 0', qr/"payment_retry_max_interval" directive must be/],
        ['payment_operations maybe', qr/"maybe" in "payment_operations" directive/],
        ['payment_outbox_path /', qr/"payment_outbox_path" directive is duplicate/],
        ['payment_outbox_initial_delay x', qr/"payment_outbox_initial_delay" directive inv/],
        ['payment_outbox_poll_interval 0', qr/"payment_outbox_poll_interval" directive must/],
        ['payment_outbox_max_delay x', qr/"payment_outbox_max_delay" directive invalid/],
        ['payment_outbox_max_delay 1001ms', qr/"payment_outbox_max_delay" must be 1s at most/],
        ['payment_outbox_batch_size 0', qr/"payment_outbox_batch_size" must be between/],
        ['payment_outbox_max_in_flight 0', qr/"payment_outbox_max_in_flight" must be bet/],
        ['payment_outbox_lock_at_most_for 1ms',
         qr/"payment_outbox_lock_at_most_for" must be 1s at least/],
        ['payment_outbox_max_retries 101', qr/"payment_outbox_max_retries" must be between/],
        ['payment_outbox_retry_interval 0', qr/"payment_outbox_retry_interval" directive must/],
        ['payment_outbox_dead_letter drop', qr/"drop" in "payment_outbox_dead_letter"/],
        ['payment_outbox_archive maybe', qr/"maybe" in "payment_outbox_archive"/],
        ['payment_outbox_drain_timeout x', qr/"payment_outbox_drain_timeout" directive inv/],
        ['payment_kafka_topic "pay ments"', qr/topic/],
        ['payment_event_source payments', qr/"payment_event_source" directive must be an abs/],
        ['payment_event_source "https://a b"', qr/"payment_event_source" directive must be/],
        ['payment_event_type_prefix com.example', qr/"payment_event_type_prefix" directive must/],
        ['payment_event_dataschema 1:2', qr/"payment_event_dataschema" directive must be/],
        ['payment_event_sequence maybe', qr/"maybe" in "payment_event_sequence"/],
        ['payment_trace_exporter 127.0.0.1:4318', qr/"payment_trace_exporter" directive must/],
        ['payment_trace_exporter https://127.0.0.1', qr/"payment_trace_exporter" directive must/],
        ['payment_trace_exporter http://127.0.0.1:99999', qr/address that cannot be used/],
        ['payment_trace_exporter http://127.0.0.1 sample=10', qr/"sample=10" in "payment_trace/],
        ['payment_trace_exporter http://127.0.0.1 sample=101%', qr/"sample=101%" in "payment/],
        ['payment_trace_exporter http://127.0.0.1 "service=a b"', qr/"service=a b" in "payment/],
        ['payment_kafka_profile fast', qr/"fast" in "payment_kafka_profile" directive/],
        ['payment_breaker maybe', qr/"maybe" in "payment_breaker" directive/],
        ['payment_breaker_failure_rate_threshold 0', qr/"0" in "payment_breaker_failure_rate/],
        ['payment_breaker_slow_call_rate_threshold 101', qr/"101" in "payment_breaker_slow/],
        ['payment_breaker_slow_call_duration_threshold 0',
         qr/payment_breaker_slow_call_duration_threshold must be/],
        ['payment_breaker_wait_duration_in_open_state 0',
         qr/payment_breaker_wait_duration_in_open_state must be/],
        ['payment_breaker_max_wait_duration_in_half_open_state x',
         qr/"payment_breaker_max_wait_duration_in_half_open_state" directive invalid/],
        ['payment_breaker_permitted_number_of_calls_in_half_open_state 0',
         qr/payment_breaker_permitted_number_of_calls_in_half_open_state must be/],
        ['payment_breaker_minimum_number_of_calls 0',
         qr/payment_breaker_minimum_number_of_calls must be/],
        ['payment_breaker_sliding_window_type sum',
         qr/"sum" in "payment_breaker_sliding_window_type"/],
        ['payment_breaker_sliding_window_size 0',
         qr/payment_breaker_sliding_window_size must be/],
        ['payment_breaker_automatic_transition_from_open_to_half_open_enabled 1',
         qr/"payment_breaker_automatic_transition_from_open_to_half_open_enabled"/]),

    map({ my ($line, $says) = @$_;
          ["\"$line\" in the location", $says, shard(), "$line;"] }
        ['payment_unknown_members warn', qr/"warn" in "payment_unknown_members"/],
        ['payment_authorization_lifetime soon',
         qr/"payment_authorization_lifetime" directive must be a time/],
        ['payment_void_remainder maybe', qr/"maybe" in "payment_void_remainder"/],
        ['payment_list yes', qr/"yes" in "payment_list"/],
        ['payment_max_amount 0', qr/"payment_max_amount" directive must be more than 0/],
        ['payment_intercept_errors maybe', qr/"maybe" in "payment_intercept_errors"/],
        ['payment_trace_context drop', qr/"drop" in "payment_trace_context" directive/],
        ['payment_challenge ""', qr/"payment_challenge" directive must be "off" or/],
        ['payment_problem_base here', qr/"payment_problem_base" directive must be the/],
        ['payment_problem LOST', qr/"LOST" in "payment_problem" directive/],
        ['payment_health dead', qr/"dead" in "payment_health" directive/],
        ['payment_status xml', qr/"xml" in "payment_status" directive/],
        ['payment_openapi 3', qr/invalid number of arguments in "payment_openapi"/],
        ['payment_asyncapi 3', qr/invalid number of arguments in "payment_asyncapi"/],
        ['payment_event_schema 3', qr/number of arguments in "payment_event_schema"/],
        ['payment_outbox_admin x', qr/number of arguments in "payment_outbox_admin"/]),
);

for (@errors) {
    my ($what, $says, $http, @places) = @$_;

    SKIP: {
        skip 'root alone has files that others may not read', 2
            if $user eq '' && $says =~ /workers' user/;

        my ($status, $said) = config_test($http, @places);

        isnt($status, 0, "nginx -t refuses $what");
        like($said, qr/\[emerg\] [^\n]*$says/, '.. and says so')
            or diag($said);
    }
}

my @warnings = (
    ['a database that answers later than the client gives up',
     qr/"read_timeout" \(6000ms\) of payment_shard "main" is not shorter than "payment_timeout" \(5000ms\) of location "\/api\/payments"/,
     shard('read_timeout 6s')],
    ['the same by a short payment_timeout',
     qr/is not shorter than "payment_timeout" \(2000ms\)/,
     shard(), 'payment_timeout 2s;'],
    ['a database that is given less time than locks are waited for',
     qr/"read_timeout" \(1000ms\) of payment_shard "main" is not longer than the 1000ms/,
     shard('read_timeout 1s')],
    ['an authorization that ends before it is answered',
     qr/"payment_authorization_lifetime" \(5s\) is not longer than "payment_timeout" \(5000ms\) of location "\/api\/payments"/,
     shard(), 'payment_authorization_lifetime 5s;'],
    ['a CA that has expired',
     qr/first certificate in file "\S+expired\.pem" of "ssl_ca" is not valid now/,
     shard($ssl, 'ssl_ca DIR/expired.pem')],
    ['a certificate that has expired',
     qr/first certificate in file "\S+expired\.pem" of "ssl_certificate" is not valid/,
     shard($ssl, 'ssl_certificate DIR/expired.pem',
           'ssl_certificate_key DIR/good.key')],
    ['two servers, where each is to have a second one',
     qr/"durability replica" has two servers in payment_shard "main": payments stop/,
     shard('server db1 db2', 'durability replica')],
    ['nothing to prove who we are',
     qr/no "password", "password_file" or "ssl_certificate" in payment_shard "main"/,
     shard('-password')],
);

my $key = `cat $dir/good.key`;

for (['sasl.password', 'swordfish', 'payment_kafka_property_file'],
     ['ssl.key.password', 'swordfish', 'payment_kafka_property_file'],
     ['ssl.keystore.password', 'swordfish', 'payment_kafka_property_file'],
     ['ssl.key.pem', $key, 'ssl.key.location'])
{
    my ($name, $secret, $instead) = @$_;

    push @warnings, [
        "$name for everybody who sees nginx -T",
        qr/"\Q$name\E" in "payment_kafka_property" is a secret that nginx -T shows, use "\Q$instead\E"/,
        shard() . "$kafka payment_kafka_property $name '$secret';"];
}

# Debian 12 has an older one
if (`pkg-config --modversion rdkafka` =~ /^([01]\.|2\.[0-5]\.|2\.6\.0)/) {
    push @warnings, [
        'a login that Kafka 4 refuses', qr/"sasl\.mechanisms" of SCRAM-SHA-512/,
        shard() . "$kafka payment_kafka_property security.protocol SASL_SSL;"
                . 'payment_kafka_property sasl.mechanism SCRAM-SHA-512;'
                . 'payment_kafka_property sasl.username payment;'
                . 'payment_kafka_property_file sasl.password DIR/password;'];
}

for (@warnings) {
    my ($what, $says, $http, $location) = @$_;
    my ($status, $said) = config_test($http, $location);

    is($status, 0, "nginx -t takes $what") or diag($said);
    like($said, qr/\[warn\] [^\n]*$says/, '.. with a warning') or diag($said);
}

# what is right is taken without a word
for (
    ['a password file that only root reads',
     shard('-password', 'password_file DIR/password')],
    ['a Kafka password file that only root reads',
     shard() . "$kafka payment_kafka_property security.protocol SASL_PLAINTEXT;"
             . 'payment_kafka_property sasl.mechanisms PLAIN;'
             . 'payment_kafka_property sasl.username payment;'
             . 'payment_kafka_property_file sasl.password DIR/password;'],
    ['a unix socket that needs no password',
     shard('server unix:/run/mysqld.sock', '-password')],
    ['an empty password that was meant', shard('password ""')],
    ['a certificate for a password',
     shard('-password', $ssl, 'ssl_ca DIR/good.pem',
           'ssl_certificate DIR/good.pem', 'ssl_certificate_key DIR/good.key')],
    ['shards that have databases of one name on two servers',
     shard('slots 0-511', 'server db1')
     . (shard('slots 512-1023', 'server db2') =~ s/main/b/r)],
) {
    my ($what, $http) = @$_;
    my ($status, $said) = config_test($http);

    is($status, 0, "nginx -t takes $what") or diag($said);
    unlike($said, qr/\[(warn|error|crit|alert|emerg)\]/, '.. without a word')
        or diag($said);
}

done_testing();
