#!/bin/bash
# Copies Kafka's jars, as tools/kafka/pom.xml names them, to build/kafka/libs.
# Does nothing when they are there already. Prints nothing unless it works.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

pom=$ROOT/tools/kafka/pom.xml
dir=$BUILD/kafka

mkdir -p "$dir"
exec 9>"$dir/lock"
flock 9

if cmp -s "$pom" "$dir/pom.xml"; then
    exit 0
fi

need mvn maven
say "fetching Kafka's jars from Maven Central"

# Maven's repository belongs to all checkouts and has no lock of its own
mkdir -p "$HOME/.m2"
exec 8<"$HOME/.m2"
flock 8

rm -rf "$dir/libs.new" "$dir/pom.xml"

mvn -B -q -ntp -f "$pom" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$dir/libs.new" \
    >"$dir/maven.log" 2>&1 8<&- 9>&- || {
        last_lines "$dir/maven.log"
        die "Maven could not fetch Kafka's jars"
    }

rm -rf "$dir/libs"
mv "$dir/libs.new" "$dir/libs"
cp "$pom" "$dir/pom.xml"
