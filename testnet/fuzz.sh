#!/bin/sh
# Runs every fuzz target of the module for a time each: sh testnet/fuzz.sh 10s
set -eu
time=${1:-10s}
go list ./... | while read -r pkg; do
	for target in $(go test -list '^Fuzz' "$pkg" 2>/dev/null | grep '^Fuzz' || true); do
		echo "$pkg $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 20x "$pkg"
	done
done
