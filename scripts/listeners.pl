#!/usr/bin/perl
# Tells which TCP address can be listened on, with nothing but what Debian
# always has.
#
#   listeners.pl --try HOST PORT  exit 0 if a server could listen there, else
#                                 print why and exit 1
#   listeners.pl                  print "HOST PORT PID COMMAND" for each socket
#                                 that listens; PID is 0 where it cannot be told
use strict;
use warnings;
use Socket qw(:all);

if (@ARGV && $ARGV[0] eq '--try') {
	my ($error, @found) = getaddrinfo($ARGV[1], $ARGV[2], { flags => AI_PASSIVE, socktype => SOCK_STREAM });
	if ($error) { print "$error\n"; exit 1 }
	for my $a (@found) {
		socket(my $s, $a->{family}, SOCK_STREAM, 0) or next;
		setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
		next if bind($s, $a->{addr}) && listen($s, 1);
		print "$!\n";
		exit 1;
	}
	exit 0;
}

my %inodes;
for my $file ('/proc/net/tcp', '/proc/net/tcp6') {
	open(my $in, '<', $file) or next;
	while (<$in>) {
		my @field = split;
		next unless @field > 9 && $field[3] eq '0A';
		my ($address, $port) = split /:/, $field[1];
		# The words of an address are in the processor's byte order.
		my $raw = join '', map { pack 'V', hex } $address =~ /.{8}/g;
		my $host = inet_ntop(length $raw == 4 ? AF_INET : AF_INET6, $raw);
		$inodes{ $field[9] } = "$host " . hex $port;
	}
}
my %owner;
for my $fd (glob '/proc/[0-9]*/fd/*') {
	my $target = readlink $fd or next;
	my ($inode) = $target =~ /^socket:\[(\d+)\]$/ or next;
	next unless $inodes{$inode} && !$owner{$inode};
	my ($pid) = $fd =~ m{^/proc/(\d+)/};
	open(my $in, '<', "/proc/$pid/comm") or next;
	chomp(my $name = <$in> // '');
	$owner{$inode} = "$pid $name";
}
print "$inodes{$_} ", $owner{$_} // '0 unknown', "\n" for sort keys %inodes;
