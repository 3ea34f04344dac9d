# The runner must not be kind: an expectation that is not met fails, a section
# it does not know stops the run, and it touches nothing that is not its own.
# Each case is a small test file of its own, run in a child process.

use strict;
use warnings;

use Cwd qw( getcwd );
use File::Temp qw( tempdir );
use IO::Socket::INET;
use Test::More;

use lib 't/lib';
use FreePort qw( free_port );

my $dir = tempdir(CLEANUP => 1);
my $lib = getcwd() . '/t/lib';
my $port = free_port();


# Returns the child's TAP and its exit status.

sub run_file {
    my ($blocks, %with) = @_;
    my $use = $with{use} // 'NginxRunner';
    my $file = "$dir/case.t";

    open my $out, '>', $file or die "$file: $!\n";
    print $out "use lib '$lib';\nuse $use 'no_plan';\n", $with{head} // '',
               "no_shuffle();\nrun_tests();\n__DATA__\n\n$blocks";
    close $out;

    local $ENV{TEST_NGINX_SERVROOT} = $with{servroot} // "$dir/servroot";
    local $ENV{TEST_NGINX_PORT} = $port;
    local $ENV{TEST_NGINX_TIMEOUT} = 1;
    local $ENV{PERL5LIB} = $with{perl5lib} // '';
    delete local @ENV{qw( TEST_NGINX_SERVER_PORT TEST_NGINX_USE_HUP
                          TEST_NGINX_RANDOMIZE TEST_NGINX_LOAD_MODULES )};

    my $tap = `$^X $file 2>&1`;

    return ($tap, $?);
}


my $config = <<'END';
--- config
    location = /a {
        add_header X-A 1;
        return 200 "one\n";
    }
    location = /wait {
        proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/a;
    }
END

my @wrong = (
    ['error_code',              "--- error_code: 404\n"],
    ['error_code, by default',  '', '/missing'],
    ['error_code_like',         "--- error_code_like: ^4\n"],
    ['response_body',           "--- response_body\ntwo\n"],
    ['response_body eval',      "--- response_body eval\nqr/two/\n"],
    ['response_body_like',      "--- response_body_like: two\n"],
    ['response_body_unlike',    "--- response_body_unlike: one\n"],
    ['response_headers',        "--- response_headers\nX-A: 2\n"],
    ['response_headers, absent', "--- response_headers\n! X-A\n"],
    ['response_headers, missing', "--- response_headers\nX-B: 1\n"],
    ['response_headers_like',   "--- response_headers_like\nX-A: \\d\\d\n"],
    ['raw_response_headers_like', "--- raw_response_headers_like: X-B\n"],
    ['raw_response_headers_unlike', "--- raw_response_headers_unlike: X-A\n"],
    ['response_body_filters',
     "--- response_body_filters: uc\n--- response_body\none\n"],
    ['response_body_json_sort',
     "--- response_body_json_sort\n--- response_body\n{}\n"],
    ['error_log',               "--- error_log\nnever logged\n"],
    ['no_error_log',            "--- no_error_log\nhttp process request\n"],
    ['grep_error_log',
     "--- grep_error_log eval\nqr/never/\n--- grep_error_log_out\nnever\n"],
    ['access_log',              "--- access_log\nGET /b\n"],
    ['no_access_log',           "--- no_access_log\nGET /a\n"],
    ['must_die',                "--- must_die\n"],
);

for my $case (@wrong) {
    my ($what, $sections, $uri) = @$case;

    $uri //= '/a';

    my ($tap, $status) = run_file("=== $what\n$config"
                                  . "--- request\nGET $uri\n$sections\n");

    like($tap, qr/^not ok/m, "$what: a wrong expectation fails");
    isnt($status, 0, "$what: and so does the file");
}


my ($tap, $status) = run_file("=== fine\n$config--- request\nGET /a\n"
                              . "--- response_body\none\n");

is($status, 0, 'the same block with the right expectation passes')
    or diag($tap);
unlike($tap, qr/^not ok/m, 'with no failure');
ok(!-e "$dir/servroot/logs/nginx.pid", 'nginx is gone afterwards');
ok(!IO::Socket::INET->new("127.0.0.1:$port"), 'and so is its port');


($tap, $status) = run_file("=== quiet\n$config"
    . "--- raw_request eval\n\"POST /wait HTTP/1.0\\r\\nContent-Length: 9"
    . "\\r\\n\\r\\n\"\n--- ignore_response\n--- timeout: 50ms\n");

like($tap, qr/^not ok .*timed out/m, 'silence of the server fails');


($tap, $status) = run_file("=== fine\n$config--- request\nGET /a\n\n"
                           . "=== other\n$config--- request\nGET /a\n"
                           . "--- respons_body\none\n");

like($tap, qr/^Bail out!.*other.*unknown section: respons_body/m,
     'an unknown section stops the run');
isnt($status, 0, 'which fails');
unlike($tap, qr/^ok/m, 'before the first block has run');


for my $section ('request eval', 'response_body eval') {
    ($tap, $status) = run_file("=== twice\n$config--- request\nGET /a\n\n"
                           . "=== other\n$config--- request\nGET /a\n\n"
                           . "=== twice\n$config--- request\nGET /a\n");

like($tap, qr/^Bail out!.*two blocks have this name/m,
     'two blocks of one name stop the run');
isnt($status, 0, 'and fail it');


($tap, $status) = run_file("=== bad\n$config--- request\nGET /a\n"
                               . "--- $section\nno_such_function(1)\n");

    like($tap, qr/^Bail out!.*eval failed/m, "$section that dies stops it");
}

($tap, $status) = run_file("=== bad\n$config--- init\ndie 'oh';\n"
                           . "--- request\nGET /a\n");

like($tap, qr/^Bail out!.*init failed: oh/m, 'and so does init');


($tap, $status) = run_file("=== bad\n--- config\n    no_such on;\n"
                           . "--- request\nGET /a\n");

like($tap, qr/^Bail out!.*Cannot start nginx/m,
     'nginx that does not start stops it');
like($tap, qr/unknown directive "no_such"/, 'and says why');


mkdir "$dir/mine" or die;
open my $out, '>', "$dir/mine/precious" or die;
close $out;

($tap, $status) = run_file("=== fine\n$config--- request\nGET /a\n",
                           servroot => "$dir/mine");

like($tap, qr/^Bail out!.*not empty/m, "somebody's directory is no servroot");
ok(-e "$dir/mine/precious", 'and is left alone');


mkdir "$dir/real" or die;
mkdir "$dir/real/Test" or die;
mkdir "$dir/real/Test/Nginx" or die;
open $out, '>', "$dir/real/Test/Nginx/Socket.pm" or die;
print $out <<'END';
package Test::Nginx::Socket;
sub import { no strict 'refs'; *{caller() . "::$_"} = \&$_ for qw( no_shuffle run_tests ) }
sub no_shuffle { }
sub run_tests { print "1..1\nok 1 - the real one\n" }
1;
END
close $out;

($tap, $status) = run_file('', use => 'Test::Nginx::Socket',
                           perl5lib => "$dir/real");

is($tap, "1..1\nok 1 - the real one\n", 'steps aside for the real one');

($tap, $status) = run_file("=== fine\n$config--- request\nGET /a\n",
                           use => 'Test::Nginx::Socket');

is($status, 0, 'and runs the file itself where there is none') or diag($tap);

done_testing();
