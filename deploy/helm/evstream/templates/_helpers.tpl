{{- define "evstream.name" -}}
{{- $name := .Release.Name -}}
{{- if not (contains .Chart.Name $name) }}{{ $name = printf "%s-%s" $name .Chart.Name }}{{ end -}}
{{- $name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "evstream.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "evstream.labels" -}}
{{ include "evstream.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "evstream.account" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "evstream.name" .) .Values.serviceAccount.name }}{{ else }}{{ default "default" .Values.serviceAccount.name }}{{ end -}}
{{- end }}

{{/* Values that cannot be meant are errors. */}}
{{- define "evstream.check" -}}
{{- if not (or .Values.image.tag .Values.image.digest) }}{{ fail "image.tag is missing: give the version of evstream, or image.digest" }}{{ end -}}
{{- if not (has .Values.log (list "memory" "bolt" "redis")) }}{{ fail (printf "log is %q; it must be memory, bolt or redis" .Values.log) }}{{ end -}}
{{- if and (gt (int .Values.replicaCount) 1) (ne .Values.log "redis") }}{{ fail (printf "replicaCount is %d with log %s; several nodes must share a log: set log to redis, or replicaCount to 1" (int .Values.replicaCount) .Values.log) }}{{ end -}}
{{- if and (eq .Values.log "redis") (not .Values.redis.secret) (not .Values.caddyfile) }}{{ fail "log is redis and redis.secret is missing: name the Secret that has the URL of the Redis" }}{{ end -}}
{{- if and .Values.caddyfile (not (contains ":8081" .Values.caddyfile)) }}{{ fail "caddyfile has no site http://:8081, which the probes ask" }}{{ end -}}
{{- if ge (int .Values.preStopSeconds) (int .Values.terminationGracePeriodSeconds) }}{{ fail "terminationGracePeriodSeconds must be longer than preStopSeconds and drain together" }}{{ end -}}
{{- end }}

{{/* Tabs and lines as `caddy fmt` has them. */}}
{{- define "evstream.caddyfile" -}}
{{- if .Values.caddyfile -}}
{{ .Values.caddyfile }}
{{- else -}}
{
	persist_config off
	{{- with .Values.trustedProxies }}
	servers {
		trusted_proxies static {{ join " " . }}
		trusted_proxies_strict
	}
	{{- end }}
	log {
		exclude admin.api
	}

	evstream {
		adapter {{ .Values.log }}{{ if eq .Values.log "redis" }} {env.REDIS_URL}{{ end }}
		{{- range splitList "\n" (trim .Values.options) }}
		{{ . }}
		{{- end }}
	}
}

http://:8080 {
	{{- range splitList "\n" (trim .Values.site) }}
	{{ . }}
	{{- end }}
}

http://:8081 {
	handle /metrics {
		metrics
	}
	@health path /evstream/_health/live /evstream/_health/ready
	handle @health {
		reverse_proxy localhost:2019 {
			header_up Host {upstream_hostport}
		}
	}
	handle {
		respond 404
	}
}
{{ end -}}
{{- end }}

{{- define "evstream.pod" -}}
metadata:
  annotations:
    checksum/caddyfile: {{ include "evstream.caddyfile" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "evstream.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "evstream.account" . }}
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: { type: RuntimeDefault }
  containers:
    - name: caddy
      image: "{{ .Values.image.repository }}{{ with .Values.image.tag }}:{{ . }}{{ end }}{{ with .Values.image.digest }}@{{ . }}{{ end }}"
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      env:
        - { name: XDG_DATA_HOME, value: /data }
        - { name: XDG_CONFIG_HOME, value: /config }
        {{- if and (eq .Values.log "redis") .Values.redis.secret }}
        - name: REDIS_URL
          valueFrom:
            secretKeyRef: { name: {{ .Values.redis.secret | quote }}, key: {{ .Values.redis.key | quote }} }
        {{- end }}
      {{- with .Values.secret }}
      envFrom:
        - secretRef: { name: {{ . | quote }} }
      {{- end }}
      ports:
        - { name: http, containerPort: 8080 }
        - { name: health, containerPort: 8081 }
      # Caddy listens when a log on the disk has been opened and checked.
      startupProbe:
        httpGet: { path: /evstream/_health/live, port: health }
        periodSeconds: 2
        failureThreshold: 150
      livenessProbe:
        httpGet: { path: /evstream/_health/live, port: health }
        periodSeconds: 10
        failureThreshold: 3
      # What all nodes share, or the only one has, keeps no reader out when it is full.
      readinessProbe:
        httpGet: { path: "/evstream/_health/ready?exclude=room{{ if eq .Values.log "bolt" }}&exclude=loading{{ end }}", port: health }
        periodSeconds: 5
        failureThreshold: 2
      lifecycle:
        preStop:
          exec: { command: [sleep, "{{ int .Values.preStopSeconds }}"] }
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: { drop: [ALL] }
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - { name: caddyfile, mountPath: /etc/caddy, readOnly: true }
        - { name: data, mountPath: /data }
        - { name: config, mountPath: /config }
        - { name: tmp, mountPath: /tmp }
  volumes:
    - name: caddyfile
      configMap: { name: {{ include "evstream.name" . }} }
    - name: config
      emptyDir: {}
    - name: tmp
      emptyDir: {}
    {{- if ne .Values.log "bolt" }}
    - name: data
      emptyDir: {}
    {{- else if .Values.persistence.existingClaim }}
    - name: data
      persistentVolumeClaim: { claimName: {{ .Values.persistence.existingClaim | quote }} }
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
