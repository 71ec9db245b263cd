#!/usr/bin/env bash
# Apache Kafka as one KRaft node (broker and controller), from the jars on Maven Central. The broker
# listens on PORT, the controller on PORT+1.
#
# With KAFKA_TLS_PORT it also has TLS listeners, with certificates created at the start:
#   KAFKA_TLS_PORT      clients need a certificate (DIR/tls/client.crt, .key; the key's password: secret)
#   KAFKA_TLS_PORT+1    clients need SASL: PLAIN, SCRAM-SHA-256 and -512 as alice with the password
#                       alice-secret, or OAUTHBEARER with an unsigned JWT
#   KAFKA_TLS_PORT+2    as +0, with a certificate that has expired
#   KAFKA_TLS_PORT+3    as +0, with a certificate for another host
#
# KAFKA_VERSION=4.3.1        version of the server's jars (4.4.0 names a jar that does not exist)
# KAFKA_HEAP=384m            maximum heap size
# KAFKA_ADVERTISED_PORT=     port advertised to clients, for a proxy in between
# KAFKA_LOG=warn             level of its log
# KAFKA_SETTINGS=            further lines of the broker's settings
# KAFKA_DATA=                where the data goes, if not in DIR/data
# KAFKA_TLS_PORT=            the first of four ports, see above; none without it
#
# DIR/env: KAFKA_BROKERS, and with KAFKA_TLS_PORT also KAFKA_TLS_PORT and KAFKA_TLS (DIR/tls).
. "$(dirname "$0")/_lib.sh"
VERSION="${KAFKA_VERSION:-4.3.1}"
LIB="$CACHE/kafka-$VERSION/lib"
# The classes, parsed once: halves the time to start.
CLASSES="$CACHE/kafka-$VERSION/classes.jsa"

do_install() {
  command -v java >/dev/null 2>&1 || apt_install openjdk-17-jre-headless
  command -v openssl >/dev/null 2>&1 || apt_install openssl
  [ -f "$LIB/.complete" ] || download_jars
  [ -f "$CLASSES" ] || dump_classes
}

# All jars that the server needs at run time, by Maven's own resolution.
download_jars() {
  command -v mvn >/dev/null 2>&1 || apt_install maven
  local dir artifact group name version
  dir="$(mktemp -d)"
  {
    echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
    echo '<groupId>forebay.invalid</groupId><artifactId>kafka-run</artifactId><version>1</version><packaging>pom</packaging><dependencies>'
    # Without a logging backend a failed start prints nothing.
    for artifact in "org.apache.kafka:kafka_2.13:$VERSION" "org.apache.kafka:kafka-tools:$VERSION" org.apache.logging.log4j:log4j-slf4j-impl:2.25.4; do
      IFS=: read -r group name version <<<"$artifact"
      echo "<dependency><groupId>$group</groupId><artifactId>$name</artifactId><version>$version</version></dependency>"
    done
    echo '</dependencies></project>'
  } >"$dir/pom.xml"
  log "downloading the jars of Kafka $VERSION (about 120 MB)"
  rm -rf "$LIB" && mkdir -p "$LIB"
  mvn -B -q -Dstyle.color=never -f "$dir/pom.xml" -Dmaven.repo.local="$dir/repository" \
    org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$LIB" >"$dir/mvn.log" 2>&1 || { tail -20 "$dir/mvn.log" >&2; die "Maven can't download Kafka $VERSION"; }
  touch "$LIB/.complete"
  rm -rf "$dir"
}

dump_classes() {
  local dir port
  dir="$(mktemp -d)"
  port=$((15000 + RANDOM % 15000))
  KAFKA_DUMP_CLASSES="$CLASSES.$$" "$HERE/kafka.sh" start "$dir" "$port" 9>&- >/dev/null && "$HERE/kafka.sh" stop "$dir" 9>&-
  # Without it the server only starts more slowly.
  if [ -f "$CLASSES.$$" ]; then mv "$CLASSES.$$" "$CLASSES"; fi
  rm -rf "$dir"
}

# The order must always be the same, or the class archive does not match.
class_path() { find "$LIB" -name '*.jar' | LC_ALL=C sort | paste -sd:; }

# The broker answers ApiVersions (key 18, version 0) without an error.
ready() {
  timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/$0 || exit 1
    printf "\x00\x00\x00\x0e\x00\x12\x00\x00\x00\x00\x00\x2a\x00\x04test" >&3
    [ "$(head -c 10 <&3 | od -An -tx1 | tr -d " \n" | cut -c9-20)" = 0000002a0000 ]' "$1"
}

# make_certificate NAME SAN FROM UNTIL: NAME.key, NAME.crt and, for the broker, both in NAME.pem.
make_certificate() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr"
  printf 'subjectAltName=%s\nbasicConstraints=CA:FALSE\n' "$2" >"$1.ext"
  # `x509 -req` can't create an expired certificate.
  openssl ca -batch -notext -config ca.cnf -cert ca.crt -keyfile ca.key -md sha256 \
    -startdate "$3" -enddate "$4" -extfile "$1.ext" -in "$1.csr" -out "$1.crt"
  cat "$1.key" "$1.crt" >"$1.pem"
}

make_certificates() {
  local dir="$1" year
  [ -f "$dir/tls/.complete" ] && return 0
  year="$(date -u +%Y)"
  rm -rf "$dir/tls" && mkdir -p "$dir/tls"
  (
    cd "$dir/tls"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj "/CN=forebay test CA" \
      -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout ca.key -out ca.crt
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj "/CN=another CA" \
      -keyout other.key -out other.crt
    touch index
    printf '%s\n' '[ca]' 'default_ca=c' '[c]' 'new_certs_dir=.' 'database=index' 'rand_serial=yes' 'policy=p' \
      'unique_subject=no' '[p]' 'commonName=supplied' >ca.cnf
    make_certificate broker DNS:localhost,IP:127.0.0.1 "$((year - 1))0101000000Z" "$((year + 2))0101000000Z"
    make_certificate expired DNS:localhost,IP:127.0.0.1 "$((year - 2))0101000000Z" "$((year - 1))0101000000Z"
    make_certificate elsewhere DNS:elsewhere.invalid "$((year - 1))0101000000Z" "$((year + 2))0101000000Z"
    make_certificate client DNS:client "$((year - 1))0101000000Z" "$((year + 2))0101000000Z"
    openssl pkcs8 -topk8 -v2 aes-256-cbc -passout pass:secret -in client.key -out client.encrypted
    mv client.encrypted client.key
    touch .complete
  ) >"$dir/tls.log" 2>&1 || { cat "$dir/tls.log" >&2; die "making certificates failed"; }
}

# Additional TLS listeners.
write_tls_settings() {
  local dir="$1" port="$2" tls="$KAFKA_TLS_PORT"
  cat <<PROPERTIES
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1)),MUTUAL://127.0.0.1:$tls,SASL://127.0.0.1:$((tls + 1)),EXPIRED://127.0.0.1:$((tls + 2)),ELSEWHERE://127.0.0.1:$((tls + 3))
advertised.listeners=PLAINTEXT://127.0.0.1:${KAFKA_ADVERTISED_PORT:-$port},MUTUAL://127.0.0.1:$tls,SASL://127.0.0.1:$((tls + 1)),EXPIRED://127.0.0.1:$((tls + 2)),ELSEWHERE://127.0.0.1:$((tls + 3))
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,MUTUAL:SSL,SASL:SASL_SSL,EXPIRED:SSL,ELSEWHERE:SSL
ssl.keystore.type=PEM
ssl.truststore.type=PEM
ssl.truststore.location=$dir/tls/ca.crt
ssl.keystore.location=$dir/tls/broker.pem
listener.name.mutual.ssl.client.auth=required
listener.name.expired.ssl.keystore.location=$dir/tls/expired.pem
listener.name.elsewhere.ssl.keystore.location=$dir/tls/elsewhere.pem
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="alice-secret";
listener.name.sasl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
PROPERTIES
}

write_settings() {
  local dir="$1" port="$2"
  cat >"$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:${KAFKA_ADVERTISED_PORT:-$port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=${KAFKA_DATA:-$dir/data}
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.num.partitions=3
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.num.partitions=3
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.segment.bytes=67108864
log.cleaner.dedupe.buffer.size=8388608
log.cleaner.threads=1
num.network.threads=2
num.io.threads=2
background.threads=2
# Delay until a killed broker may register again; 9 s by default.
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
initial.broker.registration.timeout.ms=120000
PROPERTIES
  if [ -n "${KAFKA_TLS_PORT:-}" ]; then
    make_certificates "$dir"
    # The last of two lines applies.
    write_tls_settings "$dir" "$port" >>"$dir/server.properties"
  fi
  printf '%s' "${KAFKA_SETTINGS:-}" >>"$dir/server.properties"
  cat >"$dir/log4j2.properties" <<PROPERTIES
status=error
appender.console.type=Console
appender.console.name=C
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c{1} %m%n
rootLogger.level=${KAFKA_LOG:-warn}
rootLogger.appenderRefs=c
rootLogger.appenderRef.c.ref=C
PROPERTIES
}

do_start() {
  local dir="$1" port="$2" classpath options mechanism i users=()
  [ -f "$LIB/.complete" ] && command -v java >/dev/null 2>&1 || with_lock "$SERVICE" do_install
  if ! alive "$dir"; then
    port_free "$port"
    port_free $((port + 1))
    if [ -n "${KAFKA_TLS_PORT:-}" ]; then
      for i in 0 1 2 3; do port_free $((KAFKA_TLS_PORT + i)); done
      for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
        users+=(--add-scram "$mechanism=[name=alice,password=alice-secret]")
      done
    fi
    write_settings "$dir" "$port"
    classpath="$(class_path)"
    options=(-Xms64m -Xmx"${KAFKA_HEAP:-384m}" -XX:+UseSerialGC -Xlog:disable -Xlog:all=error:stderr
      -Dlog4j2.configurationFile="file:$dir/log4j2.properties" -Djava.awt.headless=true)
    if [ -z "${KAFKA_DUMP_CLASSES:-}" ] && [ -f "$CLASSES" ]; then options+=(-XX:SharedArchiveFile="$CLASSES"); fi
    [ -f "${KAFKA_DATA:-$dir/data}/meta.properties" ] ||
      java -cp "$classpath" "${options[@]}" kafka.tools.StorageTool format --ignore-formatted \
        -t 4L6g3nShT-eMCtK--X86sw -c "$dir/server.properties" "${users[@]}" >"$dir/format.log" 2>&1 || { cat "$dir/format.log" >&2; die "can't format the storage"; }
    if [ -n "${KAFKA_DUMP_CLASSES:-}" ]; then options+=(-XX:ArchiveClassesAtExit="$KAFKA_DUMP_CLASSES"); fi
    spawn "$dir" java -cp "$classpath" "${options[@]}" kafka.Kafka "$dir/server.properties"
  fi
  wait_ready 90 "$dir" ready "$port"
  {
    echo "KAFKA_BROKERS=127.0.0.1:$port"
    if [ -n "${KAFKA_TLS_PORT:-}" ]; then printf 'KAFKA_TLS_PORT=%s\nKAFKA_TLS=%s\n' "$KAFKA_TLS_PORT" "$dir/tls"; fi
  } | tee "$dir/env"
}

do_stop() { stop_server "$1" "${KAFKA_STOP_SIGNAL:-TERM}" 30; }

main "$@"
