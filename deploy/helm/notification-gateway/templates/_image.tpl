{{- define "image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- define "selector" -}}
{app.kubernetes.io/name: {{ .Values.name }}, app.kubernetes.io/component: gateway}
{{- end -}}
