#!/usr/bin/env bash
# Apache Cassandra, one node, its jars from Maven. Uses the ports PORT to PORT+2.
#
# CASSANDRA_HEAP=512m   maximum heap size
# CASSANDRA_AUTHENTICATOR=PasswordAuthenticator   requires the login cassandra / cassandra; otherwise
#                                                 any or none is accepted
#
# Its commit log is not synced: it survives SIGKILL, not a crash of the machine; a SIGKILL may lose
# the last second, as is its own contract.
#
# Accepts connections with and without TLS on its one port. Its certificate is only for the name
# cassandra, since those of real clusters often have no addresses.
#
# DIR/env: CASSANDRA_NODE, CASSANDRA_CA
. "$(dirname "$0")/_lib.sh"
VERSION="${CASSANDRA_VERSION:-5.0.9}"
HEAP="${CASSANDRA_HEAP:-512m}"
LIB="$CACHE/cassandra-$VERSION/lib"

do_install() {
  local work
  [ -f "$LIB/.complete" ] && return 0
  command -v java >/dev/null || apt_install openjdk-17-jre-headless
  command -v mvn >/dev/null || apt_install maven
  work="$(mktemp -d)"
  cat >"$work/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>forebay.invalid</groupId><artifactId>cassandra-run</artifactId><version>1</version><packaging>pom</packaging>
<dependencies><dependency><groupId>org.apache.cassandra</groupId><artifactId>cassandra-all</artifactId><version>$VERSION</version></dependency></dependencies></project>
POM
  rm -rf "$LIB"
  mkdir -p "$LIB"
  mvn -B -q -Dstyle.color=never -f "$work/pom.xml" -Dmaven.repo.local="$CACHE/m2" \
    org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$LIB" >"$work/mvn.log" 2>&1 || { tail -20 "$work/mvn.log" >&2; die "mvn failed"; }
  touch "$LIB/.complete"
  rm -rf "$work"
}

# Ready when an OPTIONS frame is answered by SUPPORTED: its port opens last.
ready() {
  timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/$0 || exit 1
    printf "\x04\x00\x00\x00\x05\x00\x00\x00\x00" >&3
    [ "$(head -c 5 <&3 | od -An -tx1 | tr -d " \n")" = 8400000006 ]' "$1"
}

configure() {
  local dir="$1" port="$2"
  mkdir -p "$dir"/{data,commitlog,hints,saved_caches,cdc_raw,log,tmp}
  cat >"$dir/cassandra.yaml" <<Y
cluster_name: forebay-test
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
data_file_directories: [ "$dir/data" ]
commitlog_directory: "$dir/commitlog"
hints_directory: "$dir/hints"
saved_caches_directory: "$dir/saved_caches"
cdc_raw_directory: "$dir/cdc_raw"
commitlog_sync: periodic
commitlog_sync_period: 1000ms
commitlog_segment_size: 8MiB
commitlog_total_space: 256MiB
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [ { seeds: "127.0.0.1:$((port+1))" } ]
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
start_native_transport: true
native_transport_port: $port
storage_port: $((port+1))
ssl_storage_port: $((port+2))
client_encryption_options:
  enabled: true
  optional: true
  keystore: "$dir/tls/server.p12"
  keystore_password: forebay
  store_type: PKCS12
authenticator: ${CASSANDRA_AUTHENTICATOR:-AllowAllAuthenticator}
authorizer: AllowAllAuthorizer
concurrent_reads: 8
concurrent_writes: 8
concurrent_counter_writes: 2
concurrent_compactors: 1
memtable_heap_space: 64MiB
memtable_offheap_space: 64MiB
file_cache_size: 32MiB
networking_cache_size: 16MiB
key_cache_size: 8MiB
auto_snapshot: false
hinted_handoff_enabled: false
disk_access_mode: standard
Y
  cat >"$dir/logback.xml" <<X
<configuration><appender name="C" class="ch.qos.logback.core.ConsoleAppender"><encoder><pattern>%date %-5level %logger{0} %msg%n</pattern></encoder></appender>
<root level="${CASSANDRA_LOG:-WARN}"><appender-ref ref="C"/></root></configuration>
X
}

do_start() {
  local dir="$1" port="$2" i name options
  [ -f "$LIB/.complete" ] || with_lock "$SERVICE" do_install
  if ! alive "$dir"; then
    for i in 0 1 2; do port_free $((port + i)); done
    configure "$dir" "$port"
    make_certificates "$dir" DNS:cassandra
    openssl pkcs12 -export -in "$dir/tls/server.crt" -inkey "$dir/tls/server.key" -passout pass:forebay -out "$dir/tls/server.p12"
    options=(-Xms96m -Xmx"$HEAP" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xss512k -XX:MaxDirectMemorySize=256m -XX:+PerfDisableSharedMem -XX:+ExitOnOutOfMemoryError
      -Dcassandra.config="file://$dir/cassandra.yaml" -Dlogback.configurationFile="$dir/logback.xml"
      -Dcassandra.storagedir="$dir" -Dcassandra.logdir="$dir/log" -Djava.io.tmpdir="$dir/tmp" -Djna.tmpdir="$dir/tmp" -Dcassandra-foreground=yes
      -Dcassandra.skip_wait_for_gossip_to_settle=0 -Dcassandra.ring_delay_ms=100 -Dcassandra.superuser_setup_delay_ms=0
      -Dcassandra.initial_token=0 -Dcassandra.load_ring_state=false -Dcassandra.memtable.row_overhead_size=180
      -Dcassandra.skip_sync=true
      -Djava.net.preferIPv4Stack=true -Djdk.attach.allowAttachSelf=true -Dio.netty.tryReflectionSetAccessible=true
      -Dio.netty.eventLoopThreads=2 -Djava.awt.headless=true)
    for name in java.base/jdk.internal.misc java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/sun.rmi.registry java.rmi/sun.rmi.server \
             java.sql/java.sql java.base/java.lang.ref java.base/sun.nio.ch jdk.unsupported/sun.misc; do options+=(--add-exports "$name=ALL-UNNAMED"); done
    for name in java.base/java.lang.module java.base/jdk.internal.loader java.base/jdk.internal.ref java.base/jdk.internal.reflect java.base/jdk.internal.math \
             java.base/jdk.internal.module java.base/jdk.internal.util.jar jdk.management/com.sun.management.internal java.base/sun.nio.ch java.base/java.io \
             java.base/java.lang java.base/java.lang.reflect java.base/java.nio java.base/java.util java.base/java.util.concurrent \
             java.base/java.util.concurrent.atomic java.base/sun.nio.cs; do options+=(--add-opens "$name=ALL-UNNAMED"); done
    options+=(-javaagent:"$(ls "$LIB"/jamm-*.jar)")
    spawn "$dir" java "${options[@]}" -cp "$LIB/*" org.apache.cassandra.service.CassandraDaemon
  fi
  wait_ready 120 "$dir" ready "$port"
  printf 'CASSANDRA_NODE=127.0.0.1:%s\nCASSANDRA_CA=%s\n' "$port" "$dir/tls/ca.crt" | tee "$dir/env"
}

do_stop() { stop_server "$1" TERM 60; }

main "$@"
