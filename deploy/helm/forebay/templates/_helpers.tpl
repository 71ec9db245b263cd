{{- define "forebay.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Two suffixes follow it: names of objects have at most 63 characters. */}}
{{- define "forebay.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "forebay.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "forebay.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "forebay.selectorLabels" -}}
app.kubernetes.io/name: {{ include "forebay.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "forebay.labels" -}}
{{ include "forebay.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "forebay.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "forebay.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "forebay.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Rejects values that would render a deployment that can't work. */}}
{{- define "forebay.validate" -}}
{{- if and (gt (int .Values.replicaCount) 1) (ne (index .Chart.Annotations "forebay/cluster") "true") -}}
{{- fail (printf "replicaCount is %d, but Forebay %s runs on one node: a second replica would be another server with records of its own. Set replicaCount to 1." (int .Values.replicaCount) .Chart.AppVersion) -}}
{{- end -}}
{{- if and (gt (int .Values.replicaCount) 1) .Values.storage.existingClaim -}}
{{- fail "storage.existingClaim is one volume: it can't hold the data of several replicas" -}}
{{- end -}}
{{- if and .Values.tls.enabled (not .Values.tls.secretName) -}}
{{- fail "tls.enabled needs tls.secretName, the secret with certificate and key" -}}
{{- end -}}
{{- if and .Values.objectStorage.enabled (not .Values.objectStorage.bucket) -}}
{{- fail "objectStorage.enabled needs objectStorage.bucket" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.enabled needs ingress.hosts" -}}
{{- end -}}
{{- $budget := .Values.podDisruptionBudget -}}
{{- if and (hasKey $budget "minAvailable") (ge (int $budget.minAvailable) (int .Values.replicaCount)) (not (kindIs "string" $budget.minAvailable)) -}}
{{- fail "podDisruptionBudget.minAvailable is not below replicaCount: no node could be drained" -}}
{{- end -}}
{{- end -}}

{{/* The configuration file: what the chart decides, overridden by `config`. */}}
{{- define "forebay.config" -}}
{{- $derived := dict -}}
{{- $_ := set $derived "telemetry" (dict "log" (dict "level" .Values.logging.env_filter "format" "json")) -}}
{{- if .Values.objectStorage.enabled -}}
{{- $s3 := dict "bucket" .Values.objectStorage.bucket "prefix" .Values.objectStorage.path -}}
{{- with .Values.objectStorage.endpoint -}}
{{- $_ := set $s3 "endpoint" . -}}
{{- $_ := set $s3 "allowHttp" (hasPrefix "http://" .) -}}
{{- end -}}
{{- with .Values.objectStorage.region -}}{{- $_ := set $s3 "region" . -}}{{- end -}}
{{- $_ := set $derived "staging" (dict "type" "s3" "s3" $s3) -}}
{{- end -}}
{{- $source := dict -}}
{{- if .Values.ingress.enabled -}}
{{- $host := (first .Values.ingress.hosts).host -}}
{{- $_ := set $source "publicUrl" (printf "%s://%s" (ternary "https" "http" (not (empty .Values.ingress.tls))) $host) -}}
{{- end -}}
{{- if .Values.tls.enabled -}}
{{- $pair := dict "certFile" (printf "/etc/forebay/tls/%s" .Values.tls.cert) "keyFile" (printf "/etc/forebay/tls/%s" .Values.tls.key) -}}
{{- $_ := set $source "tls" $pair -}}
{{- $_ := set $derived "api" (dict "tls" $pair) -}}
{{- end -}}
{{- if $source -}}{{- $_ := set $derived "source" (dict "http" $source) -}}{{- end -}}
{{- toYaml (mergeOverwrite $derived (deepCopy .Values.config)) -}}
{{- end -}}

{{/* A probe with the scheme of the API's listener. */}}
{{- define "forebay.probe" -}}
{{- $probe := deepCopy .probe -}}
{{- if and .tls $probe.httpGet (not $probe.httpGet.scheme) -}}
{{- $_ := set $probe.httpGet "scheme" "HTTPS" -}}
{{- end -}}
{{- toYaml $probe -}}
{{- end -}}
