# Every write must be approved by a Service that does not exist. Writes to the configuration of webhooks need no
# approval.
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
# By then the leading components have lost their leases and ended, and are started again at ever longer intervals.
undo() {
	[ -e "$home/made" ] || return 0
	await_api
	ask_api delete validatingwebhookconfiguration "$name" --ignore-not-found >/dev/null
	forget_backoff
}
