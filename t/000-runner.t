# The runner on plain nginx: each section that the other files build on does
# what Test::Nginx says it does. Passes under either runner, without the module.

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';

repeat_each(2);
no_long_string();

run_tests();

__DATA__

=== a request in one line, an answer from a file
--- config
--- user_files
>>> a.txt
hello
world
>>> b.txt
other
--- request
GET /a.txt
--- response_body
hello
world
--- response_headers
Content-Length: 12
Content-Type: text/plain
! Location
--- no_error_log
[error]



=== status, raw headers, patterns
--- config
    location = /gone {
        add_header X-One first always;
        add_header X-One second always;
        return 410 "no more\n";
    }
--- request
GET /gone
--- error_code: 410
--- response_headers
X-One: first, second
--- raw_response_headers_like: X-One: first\r\nX-One: second\r\n
--- raw_response_headers_unlike: X-Two
--- response_body_like: ^no m.re$



=== a pattern for the code, and for headers
--- config
    location = /moved {
        return 302 http://127.0.0.1:$TEST_NGINX_SERVER_PORT/there;
    }
--- request
GET /moved
--- error_code_like: ^30[12]$
--- response_headers_like
Location: http://127\.0\.0\.1:\d+/there
--- response_body_unlike: here you are



=== a body has its length, without the white space round it
--- config
    location = /length {
        return 200 "$request_method $http_content_length $http_host\n";
    }
--- request
POST /length

{"a": 1}

--- response_body
POST 8 localhost



=== more headers, HTTP/1.0
--- config
    location = /headers {
        return 200 "$server_protocol [$http_x_first] [$http_x_second]\n";
    }
--- request
GET /headers HTTP/1.0
--- more_headers
X-First: 1
X-Second: two words
--- response_body
HTTP/1.0 [1] [two words]



=== several requests, each with its expectations
--- config
    location /a { return 200 "a $http_x_n\n"; }
    location /b { return 404 "b $http_x_n\n"; }
--- request eval
["GET /a", "POST /b\nbody"]
--- more_headers eval
["X-N: 1", "X-N: 2"]
--- error_code eval
[200, 404]
--- response_body eval
["a 1\n", "b 2\n"]
--- response_headers eval
["Content-Length: 4", "Content-Length: 4"]



=== pipelined requests on one connection
--- config
    location /p/ { return 200 "$connection_requests $uri\n"; }
--- pipelined_requests eval
["GET /p/a", "GET /p/b", "GET /p/c"]
--- response_body eval
["1 /p/a\n", "2 /p/b\n", "3 /p/c\n"]



=== a raw request, a chunked answer
--- config
    location = /page.txt {
        ssi on;
        ssi_types *;
    }
--- user_files
>>> page.txt
one <!--# echo var="arg_a" --> three
--- raw_request eval
"GET /page.txt?a=two HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
--- response_headers
Transfer-Encoding: chunked
--- response_body
one two three



=== a request in packets
--- config
    location = /outer {
        proxy_set_header X-Body $request_body;
        proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/inner;
    }
    location = /inner { return 200 "[$http_x_body]\n"; }
--- request eval
[["POST /outer\nfirst ", "second ", "third"]]
--- response_body
[first second third]



=== a raw request in packets, with a pause between them
--- config
    location = /outer {
        proxy_set_header X-Body $request_body;
        proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/inner;
    }
    location = /inner { return 200 "[$http_x_body]\n"; }
--- raw_request eval
["POST /outer HTTP/1.0\r\nContent-Length: 6\r\n\r\nab", "cd", "ef"]
--- raw_request_middle_delay: 0.03
--- response_body
[abcdef]



=== chunked request
--- config
    location = /len { return 200 "$http_transfer_encoding $http_content_length\n"; }
--- request eval
"POST /len\n5\r\nhello\r\n0\r\n\r\n"
--- more_headers
Transfer-Encoding: chunked
--- response_body eval
"chunked \n"



=== HEAD has the headers and no body
--- config
    location = /h { return 200 "twelve bytes"; }
--- request
HEAD /h
--- response_headers
Content-Length: 12
--- response_body eval
""



=== error.log and access.log
--- config
--- request
GET /missing.html
--- error_code: 404
--- error_log eval
["open()", qr/missing\.html" failed \(2: No such file/]
--- no_error_log
[alert]
segmentation
--- access_log
GET /missing.html HTTP/1.1" 404
--- no_access_log
GET /other
--- response_body_like: 404 Not Found



=== grep_error_log takes what the pattern matched
--- config
--- request
GET /nothing
--- error_code: 404
--- log_level: error
--- grep_error_log eval
qr/\(\d+: No such [a-z]+/
--- grep_error_log_out
(2: No such file



=== init runs before the request
--- config
--- init
open my $out, '>', Test::Nginx::Socket->can('html_dir')->() . '/by-init.txt';
print $out "made by init\n";
close $out;
--- request
GET /by-init.txt
--- response_body
made by init



=== http_config, main_config, and filters of Test::Base
--- main_config
    timer_resolution 50ms;
--- http_config
    map $arg_a $b { default no; 1 yes; }
--- config
    location = /map { return 200 "$b"; }
--- request
GET /map?a=1
--- response_body chomp
yes



=== response_body_filters, by name and by sub
--- config
    location = /f { return 200 "at 12:34:56"; }
--- request
GET /f
--- response_body_filters eval
[sub { my $b = shift; $b =~ s/\d+/N/g; $b }, "uc"]
--- response_body chomp
AT N:N:N



=== members of JSON in one order
--- config
    location = /j { return 200 '{"b": 1, "a": [2]}'; }
--- request
GET /j
--- response_body_json_sort
--- response_body
{"a":[2],"b":1}



=== a configuration that nginx must refuse
--- config
    root one;
    root two;
--- must_die
--- error_log
[emerg]
"root" directive is duplicate



=== and with which exit code
--- http_config
    no_such_directive on;
--- config
--- must_die: 1
--- error_log eval
["[emerg]", qr/unknown directive "no_such_directive"/]



=== a client that gives up is no failure where it is meant to
--- config
    location = /slow {
        proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/;
    }
--- raw_request eval
"POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc"
--- timeout: 100ms
--- abort
--- ignore_response
--- wait: 0.02
--- no_error_log
[alert]



=== a block that is skipped
--- SKIP
--- config
--- request
GET /
--- error_code: 599

