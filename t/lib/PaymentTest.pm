package PaymentTest;

# What our t/*.t files need beside Test::Nginx::Socket: the servers, a database
# of their own, and configuration that every block would otherwise repeat.
#
#     use lib 't/lib';
#     use PaymentTest;                    # or: use PaymentTest kafka => 1;
#     use Test::Nginx::Socket 'no_plan';
#
# In that order: Test::Nginx reads the environment when it is loaded. The files
# stay in Test::Nginx's format. What a block leaves out is filled in here:
#
#     http_config     a shard that owns all slots (and Kafka's brokers)
#     config          /api/payments and /status
#     more_headers    Content-Type: application/json
#     response_headers    the Content-Type that goes with the error_code
#     no_error_log    [alert], [emerg], a worker's death
#
# PaymentTest::Words holds the response_body_filters and PaymentTest::World the
# view from outside (SQL, Kafka, processes); both are called by full name.
# PaymentTest::Told looks through nginx's logs and pages after each block.

use strict;
use warnings;

use File::Temp qw( tempdir );

use FreePort qw( free_port );
use PaymentTest::Told;
use PaymentTest::Words;
use PaymentTest::World;

our $block;                 # the one that runs

my $owner = $$;
my $database;
my $prefix;


sub import {
    my ($class, %option) = @_;

    start_servers();
    make_database();

    # a secret is in no configuration, which nginx -T shows
    $ENV{TEST_NGINX_PAYMENT_DB_PASSWORD_FILE} = password_file();

    # a name in /tmp is short enough for a unix socket; see database_away()
    $ENV{TEST_NGINX_PAYMENT_DB_LINK} = tempdir(CLEANUP => 1) . '/db.sock';
    $ENV{TEST_NGINX_PAYMENT_TOPIC} = sprintf 't-%d-%d', time, $$;
    $ENV{TEST_NGINX_PAYMENT_HTTP2_PORT} = free_port();
    $ENV{TEST_NGINX_PAYMENT_HTTP3_PORT} = free_port();
    $ENV{TEST_NGINX_PAYMENT_HTTP2} =
        listen_http2($ENV{TEST_NGINX_PAYMENT_HTTP2_PORT});

    if (can_http3()) {
        $ENV{TEST_NGINX_PAYMENT_HTTP3} =
            listen_http3($ENV{TEST_NGINX_PAYMENT_HTTP3_PORT},
                         tempdir(CLEANUP => 1));
    }

    require Test::Nginx::Socket;

    Test::Nginx::Socket->can('add_block_preprocessor')->(sub {
        $block = shift;
        fill_in($block, %option);
        forget_payments();
        database_back();
    });

    Test::Nginx::Socket->can('add_test_cleanup_handler')->(sub {
        my @told = PaymentTest::Told::told($block);

        Test::More::ok(!@told, $block->name . ' - no password, key or body in '
                               . 'its logs and pages')
            || Test::More::diag(@told);
    });
}


# The servers stay as long as whoever runs several files: prove.

sub start_servers {
    if (!defined $ENV{PAYMENT_TEST_DB_SOCKET}) {
        my $parent = getppid;
        my $user = read_file("/proc/$parent/cmdline") =~ /\bprove\b/ ? $parent
                                                                     : $$;
        my $exports = `tools/test-env.sh start --for $user`;

        die "tools/test-env.sh failed\n" if $? != 0;

        while ($exports =~ /^export (\w+)=(.*)$/mg) {
            my ($name, $value) = ($1, $2);
            $value =~ s/\\(.)/$1/g;
            $ENV{$name} = $value;
        }
    }

    my ($module) = split ' ', $ENV{TEST_NGINX_LOAD_MODULES} // '';

    die "$module is not there: run make build\n"
        if defined $module && !-f $module;
}


sub password_file {
    my $name = tempdir(CLEANUP => 1) . '/password';

    open my $file, '>', $name or die "$name: $!\n";
    chmod 0600, $file or die "$name: $!\n";
    print $file "$ENV{TEST_NGINX_PAYMENT_DB_PASSWORD}\n";
    close $file or die "$name: $!\n";

    return $name;
}


# One for each file, so that files can be run in any order and side by side.

sub make_database {
    $prefix = $ENV{PAYMENT_TEST_DB_NAME};
    $database = "${prefix}_t$$";

    for my $old (split /\n/, sql("SHOW DATABASES LIKE '${prefix}\\_t%'", '')) {
        my ($pid) = $old =~ /_t(\d+)(?:_\w+)?$/ or next;
        sql("DROP DATABASE IF EXISTS $old", '') if !-d "/proc/$pid";
    }

    new_database($database);
    $ENV{TEST_NGINX_PAYMENT_DB_NAME} = $database;
}


sub database {
    return $database;
}


END {
    local $?;

    if (defined $database && $$ == $owner) {
        eval {
            for my $name (split /\n/, sql("SHOW DATABASES LIKE '$database%'",
                                          ''))
            {
                sql("DROP DATABASE $name", '');
            }
        };
    }
}


# The sections that a block may leave out.

my $shard = <<'END';
    payment_shard main {
        slots 0-1023;
        server unix:$TEST_NGINX_PAYMENT_DB_SOCKET;
        database $TEST_NGINX_PAYMENT_DB_NAME;
        user $TEST_NGINX_PAYMENT_DB_USER;
        password_file $TEST_NGINX_PAYMENT_DB_PASSWORD_FILE;
    }
END

my $kafka = <<'END';
    payment_kafka_brokers 127.0.0.1:$TEST_NGINX_PAYMENT_KAFKA_PORT;
    payment_kafka_topic $TEST_NGINX_PAYMENT_TOPIC;
    payment_outbox_initial_delay 0;
    payment_outbox_lock_at_most_for 5s;
    payment_outbox_lock_at_least_for 0;
END

my $locations = <<'END';
    location /api/payments {
        payment_api;
    }
    location = /status {
        payment_status;
    }
END


sub fill_in {
    my ($block, %option) = @_;

    my $http = $block->http_config // '';

    $http = $shard . $http if $http !~ /^\s*(?:#\s*)?payment_shard\b/m;
    $http .= $kafka if $option{kafka}
                       && $http !~ /\bpayment_(?:kafka_brokers|outbox\s+off)\b/;

    # below the server's root, not where Debian's nginx has its state
    $http = "    payment_outbox_path outbox_temp;\n" . $http
        if $http !~ /\bpayment_outbox_path\b/;

    $block->set_value('http_config', $http);
    $block->set_value('config', $locations) if !defined $block->config;

    return if defined $block->must_die;

    $block->set_value('no_error_log', "[alert]\n[emerg]\nexited on signal\n")
        if !defined $block->no_error_log && !defined $block->error_log;

    return if defined $block->raw_request;

    $block->set_value('more_headers', 'Content-Type: application/json')
        if !defined $block->more_headers;

    fill_in_content_type($block)
        if !defined $block->response_headers
           && !defined $block->response_headers_like
           && !defined $block->ignore_response;
}


sub fill_in_content_type {
    my ($block) = @_;
    my $requests = $block->pipelined_requests // $block->request;
    my $code = $block->error_code;

    return if defined $block->error_code_like;

    my @types = map {
        my $one = ref $code ? $code->[$_] : $code // 200;
        'Content-Type: application/' . ($one < 400 ? 'json' : 'problem+json');
    } 0 .. (ref $requests ? $#$requests : 0);

    $block->set_value('response_headers',
                      ref $requests ? \@types : $types[0]);
}

1;
