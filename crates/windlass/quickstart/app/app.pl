#!/usr/bin/perl
# The sample application: two values over HTTP. GET /value/git answers what is written here, GET /value/argo what the
# image was built with, GET /healthz that it serves. On SIGTERM it takes no new connection and ends.
use strict;
use warnings;
use IO::Socket::INET;

my $git_value = "github main branch";

my %answers = (
    '/value/git'  => sub { $git_value },
    '/value/argo' => sub { $ENV{FROM_ARGO} // 'Not from Argo' },
    '/healthz'    => sub { 'ok' },
);

exit 0 if @ARGV && $ARGV[0] eq '--check';

my $server = IO::Socket::INET->new(LocalPort => 8000, Listen => 128, ReuseAddr => 1) or die "cannot listen: $@";
my $stop = 0;
$SIG{TERM} = sub { $stop = 1; close $server };
$SIG{PIPE} = 'IGNORE';
$| = 1;
print "listening on port 8000\n";

while (!$stop) {
    my $client = $server->accept or next;
    my $request = <$client> // '';
    while (defined(my $line = <$client>)) { last if $line =~ /^\r?\n$/ }
    my ($path) = $request =~ m{^GET (\S+)};
    my $answer = defined $path ? $answers{$path} : undef;
    my ($status, $body) = $answer ? ('200 OK', $answer->()) : ('404 Not Found', 'not found');
    print $client "HTTP/1.1 $status\r\nContent-Type: text/plain\r\nContent-Length: ", length $body,
        "\r\nConnection: close\r\n\r\n$body";
    close $client;
}
print "stopped\n";
