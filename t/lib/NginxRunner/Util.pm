package NginxRunner::Util;

# Small things every part of the runner needs. Nothing here knows of a block.

use strict;
use warnings;

use Exporter qw( import );
use Test::More ();
use Time::HiRes qw( sleep time );

use FreePort qw( free_port );
use NginxRunner::Settings;

our @EXPORT = qw( await bail_out expand_env is_alive on_bail_out verbose
                  read_file write_file );

my $cleanup;
my %random_port;


# Runs the condition until it is true or the time is over, and returns what it
# said last. The only wait of the runner.

sub await {
    my ($limit, $condition) = @_;

    my $end = time + $limit;
    my $step = 0.001;

    while (1) {
        my $result = $condition->();

        return $result if $result;
        return $result if time >= $end;

        sleep $step;
        $step *= 1.5 if $step < 0.02;
    }
}


sub on_bail_out {
    ($cleanup) = @_;
}


sub bail_out {
    $cleanup->() if $cleanup;

    Test::More::BAIL_OUT(join '', @_);
}


sub verbose {
    warn '# ', @_, "\n" if $set{verbose};
}


# A zombie still takes signals, but has closed everything it had.

sub is_alive {
    my ($pid) = @_;

    return 0 if !kill 0, $pid;

    open my $in, '<', "/proc/$pid/stat" or return -d '/proc/self' ? 0 : 1;

    my $stat = <$in> // '';

    return $stat !~ /^\d+ \(.*\) [ZX] /;
}


# $TEST_NGINX_ANYTHING, and $TEST_NGINX_RAND_PORT_n, which is one free port
# for as long as a block lasts.

sub expand_env {
    my ($text, $name) = @_;

    return $text if !defined $text || ref $text;

    $text =~ s{\$(TEST_NGINX_[_A-Z0-9]+)}{
        $1 =~ /^TEST_NGINX_RAND_PORT_\d+$/ ? $random_port{$name}{$1}
                                                 //= free_port()
        : defined $ENV{$1} ? $ENV{$1}
        : bail_out("$name - No environment $1 defined.\n")
    }ge;

    return $text;
}


sub read_file {
    my ($path) = @_;

    open my $in, '<:raw', $path or return undef;
    local $/;

    return scalar(<$in>) // '';
}


sub write_file {
    my ($path, $content) = @_;

    open my $out, '>:raw', $path
        or bail_out("Can't open $path for writing: $!\n");
    print $out $content;
    close $out or bail_out("Can't write $path: $!\n");
}

1;
