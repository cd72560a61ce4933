{{- define "spanmill.name" -}}
{{- printf "%s" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "spanmill.labels" -}}
app.kubernetes.io/name: spanmill
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "spanmill.selector" -}}
app.kubernetes.io/name: spanmill
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "spanmill.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "spanmill.name" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What probes need besides a path and a port: an admin server with a certificate speaks https only. */}}
{{- define "spanmill.probeScheme" -}}
{{- if dig "admin" "tls" "cert_file" "" .Values.config -}}, scheme: HTTPS{{- end -}}
{{- end -}}

{{/* What the chart adds to the configuration: the admin server is reached from outside of the pod, and overrides are a mounted file. */}}
{{- define "spanmill.config" -}}
{{- $added := dict "admin" (dict "listen" "0.0.0.0:9464") -}}
{{- if .Values.overrides -}}
{{- $_ := set $added "overrides" (dict "file" "/etc/spanmill/overrides.yaml") -}}
{{- end -}}
{{- mergeOverwrite (deepCopy .Values.config) $added | toYaml -}}
{{- end -}}
