# Whoever writes anything must have it approved by a Service that does not exist. The configuration of webhooks itself needs no approval.
component=kube-apiserver
inject() {
	there=$(named validatingwebhookconfiguration "$name")
	[ -z "$there" ] || return 0
	: >"$home/made"
	ask_api create --filename=- >/dev/null <<-END
		apiVersion: admissionregistration.k8s.io/v1
		kind: ValidatingWebhookConfiguration
		metadata: {name: $name}
		webhooks:
		- name: nobody.kchaos.io
		  clientConfig: {service: {namespace: kube-system, name: $name}}
		  rules: [{operations: ["*"], apiGroups: ["*"], apiVersions: ["*"], resources: ["*/*"], scope: "*"}]
		  failurePolicy: $unanswered
		  sideEffects: None
		  admissionReviewVersions: [v1]
	END
}
# Who leads has lost its lease by then, ended, and is started again at ever longer intervals.
undo() {
	[ -e "$home/made" ] || return 0
	await_api
	ask_api delete validatingwebhookconfiguration "$name" --ignore-not-found >/dev/null
	forget_backoff
}
