package NginxRunner;

# Runs *.t files in the format of Test::Nginx::Socket: for each block, write
# its nginx.conf, restart nginx, send its requests, check what it expects.
# Knows the sections listed below; any other stops the whole run, so that an
# expectation is never passed over in silence.
#
#   NginxRunner::Settings   what a file or the environment may choose
#   NginxRunner::Server     servroot, nginx.conf, start, stop, reload
#   NginxRunner::Client     requests out, answers in
#   NginxRunner::Check      the expectations
#   NginxRunner::Util       waiting, bailing out, files

use strict;
use warnings;

use File::Path ();
use List::Util qw( shuffle );
use Test::Base ();
use Time::HiRes qw( sleep );

use NginxRunner::Settings;
use NginxRunner::Util;
use NginxRunner::Server;
use NginxRunner::Client;
use NginxRunner::Check;

our @ISA = ('Test::Base');

our @EXPORT = qw(
    plan run_tests repeat_each no_shuffle no_long_string no_root_location
    workers worker_connections master_on master_off master_process_enabled
    log_level timeout config_preamble env_to_nginx use_hup
    server_addr server_name server_port server_port_for_client server_root
    html_dir check_accum_error_log bail_out is_str
    add_block_preprocessor add_cleanup_handler add_test_cleanup_handler
    add_response_body_check
);

my %known = map { $_ => 1 } qw(
    ONLY SKIP LAST
    main_config http_config config post_main_config server_name user_files
    post_setup_server_root init error_log_file log_level suppress_stderr
    must_die reload_fails skip_nginx skip_eval
    request raw_request raw_request_middle_delay pipelined_requests
    more_headers timeout abort shutdown server_addr_for_client wait
    error_code error_code_like response_headers response_headers_like
    raw_response_headers_like raw_response_headers_unlike
    response_body response_body_like response_body_unlike
    response_body_filters response_body_json_sort ignore_response
    error_log no_error_log grep_error_log grep_error_log_out
    access_log no_access_log
);

my (@preprocessors, @cleanup_handlers, @test_cleanup_handlers);
my $started_by = $$;
my $previous_config;


# Settings a file makes before run_tests(): each sets with an argument and
# tells without.

for my $name (qw( workers worker_connections log_level timeout repeat_each
                  server_addr server_name config_preamble )) {
    no strict 'refs';
    *$name = sub {
        $set{$name} = shift if @_;
        return $set{$name};
    };
}

sub server_port {
    $set{port} = shift if @_;
    return $set{port};
}

sub server_port_for_client {
    $set{client_port} = shift if @_;
    return $set{client_port};
}

sub master_process_enabled {
    $set{master_process} = shift() ? 'on' : 'off' if @_;
    return $set{master_process};
}

sub master_on               { $set{master_process} = 'on' }
sub master_off              { $set{master_process} = 'off' }
sub use_hup                 { $set{use_hup} = 1 }
sub no_shuffle              { $set{no_shuffle} = 1 }
sub no_long_string          { $set{no_long_string} = 1 }
sub no_root_location        { $set{no_root_location} = 1 }
sub check_accum_error_log   { $set{accumulate_log} = 1 }
sub env_to_nginx            { push @{ $set{env_to_nginx} }, @_ }
sub server_root             { return $set{servroot} }
sub html_dir                { return { servroot_paths() }->{html} }

# The last added runs first, as in Test::Nginx.

sub add_block_preprocessor(&)   { unshift @preprocessors, shift }
sub add_cleanup_handler         { unshift @cleanup_handlers, shift }
sub add_test_cleanup_handler    { unshift @test_cleanup_handlers, shift }

sub is_str {
    my ($got, $expected, $name) = @_;

    return ref $expected eq 'Regexp'
           ? Test::More::like($got, $expected, $name)
           : Test::More::is($got, $expected, $name);
}


sub run_tests {
    my @blocks = Test::Base::blocks();

    refuse_unknown_sections($_) for @blocks;
    refuse_equal_names(@blocks);

    @blocks = shuffle @blocks if !$set{no_shuffle};

    # an interrupted run stops its nginx too: exit reaches END

    local @SIG{qw( INT TERM HUP )} = (sub { exit 1 }) x 3;

    for my $block (@blocks) {
        $_->($block) for @preprocessors;

        $block->set_value('name', "$0 " . $block->name);

        run_block($block);

        $_->($block) for @test_cleanup_handlers;
    }

    clean_up();
}


sub refuse_unknown_sections {
    my ($block) = @_;

    for my $section (@{ $block->_section_order }) {
        bail_out($block->name, " - unknown section: $section\n")
            if !$known{$section};
    }
}


# prove tells by its name alone which block failed.

sub refuse_equal_names {
    my %seen;

    for my $name (map { $_->name } @_) {
        bail_out("$name - two blocks have this name\n") if $seen{$name}++;
    }
}


sub run_block {
    my ($block) = @_;
    my $name = $block->name;

    verbose("block $name");

    my $skip = reason_to_skip($block);

    if (defined $skip) {
        my ($count, $reason) = @$skip;

        Test::More->builder->skip("$name - $reason") for 1 .. $count;
        return;
    }

    $block->set_value('config', $previous_config) if !defined $block->config;

    bail_out("$name - no config, and no block before it had one\n")
        if !defined $block->config;

    $previous_config = $block->config;

    return expect_death($block) if defined $block->must_die;

    if (!$set{use_hup} || !reload_server($block)) {
        stop_server($name);
        start_server($block);
    }

    note_log_position('block');

    if (defined $block->init) {
        eval $block->init;
        bail_out("$name - init failed: $@") if $@;
    }

    for my $repeat (0 .. $set{repeat_each} - 1) {
        write_user_files($block) if $repeat > 0;
        run_requests($block, $repeat);
    }
}


# "count: condition" or "count: < 1.2.3"; undef when the block shall run.

sub reason_to_skip {
    my ($block) = @_;
    my $name = $block->name;

    if (defined(my $spec = $block->skip_eval)) {
        my ($count, $code) = $spec =~ /^\s*(\d+)\s*:\s*(.*)/s
            or bail_out("$name - bad skip_eval: $spec\n");

        my $yes = eval $code;

        bail_out("$name - skip_eval failed: $@") if $@;
        return [$count, 'skip_eval'] if $yes;
    }

    if (defined(my $spec = $block->skip_nginx)) {
        my ($count, $op, $limit) =
            $spec =~ /^\s*(\d+)\s*:\s*([<>]=?)\s*(\d+\.\d+\.\d+)/
            or bail_out("$name - bad skip_nginx: $spec\n");

        my $version = `$set{binary} -v 2>&1` =~ m{/(\d+\.\d+\.\d+)} ? $1
                      : bail_out("$name - no version of $set{binary}\n");
        my $order = version_number($version) <=> version_number($limit);
        my $yes = $op eq '<' ? $order < 0 : $op eq '<=' ? $order <= 0
                : $op eq '>' ? $order > 0 : $order >= 0;

        return [$count, "nginx version $op $limit"] if $yes;
    }

    return undef;
}


sub version_number {
    my @parts = split /\./, shift;

    return $parts[0] * 1_000_000 + $parts[1] * 1_000 + $parts[2];
}


# nginx must not start; a number says with which exit code.

sub expect_death {
    my ($block) = @_;
    my $name = $block->name;
    my $expected = $block->must_die;

    stop_server($name);

    for my $repeat (0 .. $set{repeat_each} - 1) {
        my $code = run_expecting_death($block, $repeat == 0);

        if ($code == -1) {
            Test::More::fail("$name - nginx exits by itself");

        } elsif ($expected =~ /^\d+$/) {
            Test::More::is($code, $expected,
                           "$name - die with the expected exit code");

        } else {
            Test::More::isnt($code, 0, "$name - die as expected");
        }

        if ($code == 0) {
            await($set{timeout}, sub { server_pid() });
            stop_server($name);
        }

        note_log_position('block');
        check_logs($block, { index => 0, repeat => $repeat, many => 0 });
    }
}


sub run_requests {
    my ($block, $repeat) = @_;
    my $name = $block->name;
    my @requests = requests_of_block($block);
    my $pipelined = $block->pipelined_requests;
    my $answers = $pipelined ? @$pipelined : 1;
    my $total = $answers > 1 ? $answers : @requests;
    my $at = { index => 0, repeat => $repeat,
               many => defined $pipelined || @requests > 1 };

    note_log_position('request');

    for my $packets (@requests) {
        my ($raw, $error) = send_request($block, $packets);
        my $is_head = $packets->[0]{value} =~ /^\s*HEAD\s/;

        Test::More::fail("$name - $error") if defined $error;

        $raw //= '';
        verbose("answer: $raw");

        for (1 .. $answers) {
            note_log_position('answer');

            if (!defined $block->ignore_response) {
                my ($res, $left, $wrong) = parse_response($raw, $is_head);

                Test::More::fail("$name - $wrong") if defined $wrong;

                check_response($block, $res, $at);
                $raw = $left;
            }

            sleep $block->wait if $block->wait;

            check_logs($block, $at);
            $at->{index}++;
        }

        warn "WARNING: $name - unexpected extra bytes: $raw\n"
            if $raw ne '' && !defined $block->ignore_response;
    }
}


sub clean_up {
    $_->() for @cleanup_handlers;
    @cleanup_handlers = ();
}


on_bail_out(\&clean_up);


END {
    local $?;

    if ($$ == $started_by) {
        clean_up();
        stop_server($0) if !$set{no_clean};
        File::Path::remove_tree($set{servroot})
            if $set{randomize} && !$set{no_clean};
    }
}


# An eval filter that fails must not become an expectation.

package NginxRunner::Filter;

our @ISA = ('Test::Base::Filter');

sub eval {
    my $self = shift;
    my @values = $self->SUPER::eval(@_);

    NginxRunner::Util::bail_out($self->current_block->name,
                                " - eval failed: $@") if $@;
    return @values;
}

BEGIN { require Test::Base::Filter }

1;
