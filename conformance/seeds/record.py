#!/usr/bin/env python3
"""Records the node tables of the seeds' manifests as the real Argo makes them: `tables/*.yaml`.

    record.py --programs DIR --crds DIR --minio FILE --registry HOST:PORT --host ADDRESS [TABLE…]

Needs a Kubernetes with one node, in KUBECONFIG, with rights to do everything there; Argo v4.1.2's programs
`workflow-controller`, `argoexec` (static) and `argo` in --programs and the CRDs of that release in --crds; the registry
that the node asks for every image, whatever host its name has; an address of this machine that pods reach; and on the
PATH kubectl, git, openssl, ssh-keygen, sshd, skopeo, a static busybox, and PyYAML here. As root, for sshd.

What we record is the controller's node table, not the steps' work: images are stand-ins (`IMAGES`), whose programs
(`PROGRAMS`) make what the manifest declares and end well. The outside world is served from this machine under its own
names: git over HTTPS and S3 with certificates that the executor's image trusts, git over ssh with a host key that it
knows. What was not as in the manifest is listed at the head of each table. The normal form is `tables/rules.yaml`.
"""
import argparse, gzip, hashlib, http.server, io, json, os, shutil, signal, socket, ssl, subprocess, sys, tarfile, tempfile
import threading, time, yaml

HERE = os.path.dirname(os.path.abspath(__file__))
RULES = yaml.safe_load(open(f'{HERE}/tables/rules.yaml'))
KEYS = {'root-user': 'admin', 'root-password': 'a long password'}
GITHUB, BITBUCKET, S3 = 'github.com', 'bitbucket.org', 's3.amazonaws.com'
S3_NAMES = [S3, 's3.us-east-1.amazonaws.com', 's3.dualstack.us-east-1.amazonaws.com']

PROGRAMS = {
    'bin/git': '''case "$*" in
  *rev-parse*) head=$(cat .git/HEAD); case $head in ref:*) head=$(cat ".git/${head#ref: }") ;; esac; echo "$head" | cut -c1-7 ;;
esac''',
    'bin/go': 'mkdir -p /go/bin && echo program > /go/bin/program',
    'bin/docker': 'exit 0',
    'bin/dockerd-entrypoint.sh': 'trap "exit 0" TERM; while :; do sleep 1; done',
    'bin/kubectl': 'echo "$*"',
    'bin/ansible-playbook': 'echo "$*"',
    'bin/delete-namespace-for-ref': 'echo "$*"',
    'kaniko/executor': 'echo "$*"',
}
# Every image that the seeds name. `Entrypoint` is what the real image has: Argo asks its registry where a manifest has
# no command, and here its `images:` setting answers.
IMAGES = {
    'bash:latest': None, 'alpine/git': ['git'], 'golang:1.14': None, 'golang:1.10': None, 'docker:18.09': None,
    'docker:18.09-dind': ['dockerd-entrypoint.sh'], 'bouwe/ansible-kubectl-credstash:0.0.1': None,
    'gcr.io/kaniko-project/executor': ['/kaniko/executor'], 'gcr.io/kaniko-project/executor:debug': ['/kaniko/executor'],
    'bitnami/kubectl:1.17.4': [], 'custom-ci-tools-image': None,
}
EXECUTOR = 'quay.io/argoproj/argoexec:v4.1.2'
REPOSITORIES = {
    'BeaverHouse/dive-argo-fastapi': ('main', {'Dockerfile': 'FROM python:3.9\n', 'main.py': '\n'}),
    'argoproj/argo': ('master', {'VERSION': '2.1.1\n'}),
    'airbnb/k8s-webhook-handler': ('master', {'main.go': 'package main\n'}),
    'bouwe_ceunen/crypto-gathering-backend': ('master', {'ansible/x.yml': '\n', 'Dockerfile': 'FROM scratch\n'}),
}
HTTPS = 'https://github.com/airbnb/k8s-webhook-handler.git'

CLONE = 'git-url=https://github.com/BeaverHouse/dive-argo-fastapi.git'
OVER_HTTPS = f'the annotation repo_ssh is {HTTPS}: without a key the real Argo does not clone over ssh'
ROLE = 'the ServiceAccount has cluster-admin: the article’s own rights lack the executor’s on workflowtaskresults'
# The tables: the article's folder, what is applied before, the manifest, its parameters and annotations, and what was
# not as the article has it.
CASES = {
    '000-git-clone-first': dict(template='000/git-clone-first.yaml', entrypoint='checkout', parameters=[CLONE]),
    '000-argo-ci': dict(before=['000/git-clone.yaml', '000/image-build.yaml'], file='000/argo-ci.yaml',
                        parameters=[CLONE, 'FROM_ARGO=argo test'], archive_logs=True, differs=[ROLE]),
    '001-argo-ci': dict(before=['000/git-clone.yaml', '000/image-build.yaml'], file='000/argo-ci.yaml', archive_logs=True,
                        parameters=[CLONE, 'FROM_ARGO=아르고 테스트', 'image_tag=v2'], differs=[ROLE]),
    '002-cicd': dict(file='002/cicd.yaml', differs=[
        ROLE, 'the executor’s environment says where the machine’s role for the bucket is asked',
        'the sidecar is not dockerd: it waits until it is killed']),
    '003-input-artifact-git': dict(file='003/input-artifact-git.yaml'),
    '003-build': dict(file='003/build.yaml', event='push', differs=[OVER_HTTPS]),
    '003-kaniko': dict(file='003/kaniko.yaml', event='push', differs=[OVER_HTTPS]),
    '003-deploy': dict(file='003/deploy.yaml', event='push', differs=[OVER_HTTPS, ROLE]),
    '003-push': dict(file='003/push-delete.yaml', event='push', differs=[OVER_HTTPS, ROLE]),
    '003-delete': dict(file='003/push-delete.yaml', event='delete', differs=[OVER_HTTPS, ROLE]),
}
NAMESPACES = {'000': 'argo-wf', '001': 'argo-wf', '002': 'argo', '003': 'seeds-ci'}
ACCOUNTS = {'argo-wf': 'huadmin', 'argo': 'argo', 'seeds-ci': 'ci-workflow'}


def run(*command, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **more)
    if done.returncode:
        raise SystemExit(f'{" ".join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}')
    return done.stdout


def apply(*objects, namespace=None):
    text = '\n---\n'.join(json.dumps(o) for o in objects)
    run('kubectl', *(['-n', namespace] if namespace else []), 'apply', '-f', '-', input=text)


def seed(name):
    return yaml.safe_load(open(f'{HERE}/{name}'))


class World:
    """The outside world, on this machine, each under a name of its own: a Service that leads here."""

    def __init__(self, options):
        self.options, self.dir, self.children, self.addresses = options, tempfile.mkdtemp(prefix='seeds-record-'), [], {}
        self.bare = f'{self.dir}/bare'
        self.certificates()
        self.repositories()
        self.ssh()
        self.role()

    def path(self, name):
        return f'{self.dir}/{name}'

    def start(self, *command, log, **more):
        child = subprocess.Popen([str(c) for c in command], stdout=open(self.path(log), 'w'), stderr=subprocess.STDOUT, **more)
        self.children.append(child)
        return child

    def end(self):
        for child in self.children:
            child.send_signal(signal.SIGTERM)
        for child in self.children:
            child.wait()
        shutil.rmtree(self.dir)

    def certificates(self):
        os.makedirs(self.path('tls'))
        names = ','.join('DNS:' + n for n in [GITHUB, *S3_NAMES])
        run('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '30', '-subj', '/CN=seeds', '-addext',
            f'subjectAltName={names}', '-keyout', self.path('tls/private.key'), '-out', self.path('tls/public.crt'))

    def repositories(self):
        self.commits = {}
        who = {'GIT_AUTHOR_NAME': 'a', 'GIT_AUTHOR_EMAIL': 'a@example.org', 'GIT_COMMITTER_NAME': 'a', 'GIT_COMMITTER_EMAIL': 'a@example.org',
               'GIT_AUTHOR_DATE': '1700000000 +0000', 'GIT_COMMITTER_DATE': '1700000000 +0000', 'GIT_CONFIG_GLOBAL': '/dev/null'}
        for name, (branch, files) in REPOSITORIES.items():
            tree, bare = f'{self.dir}/trees/{name}', f'{self.bare}/{name}.git'
            for file, text in files.items():
                os.makedirs(os.path.dirname(f'{tree}/{file}'), exist_ok=True)
                open(f'{tree}/{file}', 'w').write(text)
            git = lambda *a: run('git', '-C', tree, *a, env={**os.environ, **who}).strip()
            git('init', '-q', '-b', branch)
            git('add', '-A')
            git('commit', '-q', '-m', 'one')
            if name == 'argoproj/argo':
                git('tag', 'v2.1.1')
            self.commits[name] = git('rev-parse', 'HEAD')
            run('git', 'clone', '-q', '--bare', tree, bare)
        self.serve_git()

    def serve_git(self):
        """git over HTTPS: git's own `http-backend`."""
        bare = self.bare

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                path, _, query = self.path.partition('?')
                body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
                env = {**os.environ, 'GIT_PROJECT_ROOT': bare, 'GIT_HTTP_EXPORT_ALL': '1', 'PATH_INFO': path, 'QUERY_STRING': query,
                       'REQUEST_METHOD': self.command, 'CONTENT_TYPE': self.headers.get('Content-Type', ''),
                       'HTTP_CONTENT_ENCODING': self.headers.get('Content-Encoding', ''), 'GIT_PROTOCOL': self.headers.get('Git-Protocol', ''),
                       'GIT_CONFIG_COUNT': '1', 'GIT_CONFIG_KEY_0': 'safe.directory', 'GIT_CONFIG_VALUE_0': '*'}
                out = subprocess.run(['git', 'http-backend'], input=body, capture_output=True, env=env).stdout
                head, _, rest = out.partition(b'\r\n\r\n')
                headers = dict(line.split(': ', 1) for line in head.decode().split('\r\n') if line)
                self.send_response(int(headers.pop('Status', '200').split()[0]))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header('Content-Length', str(len(rest)))
                self.end_headers()
                self.wfile.write(rest)

            do_GET = do_POST = answer

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer((self.options.host, 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path('tls/public.crt'), self.path('tls/private.key'))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        self.git_port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def ssh(self):
        """A real sshd with an account `git` of its own, which only it sees."""
        for key in ('host', 'id_rsa'):
            run('ssh-keygen', '-q', '-t', 'rsa', '-b', '2048', '-m', 'PEM', '-N', '', '-f', self.path(key))
        self.ssh_port = free_port(self.options.host)
        open(self.path('passwd'), 'w').write(open('/etc/passwd').read() + f'git:*:0:0::{self.bare}:/bin/sh\n')
        open(self.path('sshd_config'), 'w').write(
            f'Port {self.ssh_port}\nListenAddress {self.options.host}\nHostKey {self.path("host")}\nAuthorizedKeysFile {self.path("id_rsa.pub")}\n'
            'StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nPidFile none\n')
        os.makedirs('/run/sshd', exist_ok=True)
        script = f'mount --bind {self.path("passwd")} /etc/passwd && exec {shutil.which("sshd") or "/usr/sbin/sshd"} -D -e -f {self.path("sshd_config")}'
        self.start('unshare', '-m', 'sh', '-c', script, log='sshd.log')

    def role(self):
        """What a machine of AWS has: credentials for whoever asks from this machine. The pods of 002 are on its network."""
        answer = {'AccessKeyId': KEYS['root-user'], 'SecretAccessKey': KEYS['root-password'], 'Token': '',
                  'Expiration': '2099-01-01T00:00:00Z'}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.role_url = f'http://127.0.0.1:{server.server_address[1]}/role'
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def store(self, secure, bucket):
        """An S3 server with this bucket; its port."""
        data = self.path(f'data-{"tls" if secure else "plain"}')
        os.makedirs(f'{data}/{bucket}', exist_ok=True)
        port = free_port(self.options.host)
        certs = ['--certs-dir', self.path('tls')] if secure else ['--certs-dir', self.path('no-tls')]
        env = {**os.environ, 'MINIO_ROOT_USER': KEYS['root-user'], 'MINIO_ROOT_PASSWORD': KEYS['root-password'], 'MINIO_BROWSER': 'off', 'MINIO_UPDATE': 'off'}
        self.start(self.options.minio, 'server', '--quiet', *certs, '--address', f'{self.options.host}:{port}', data, log=f'minio-{secure}.log', env=env)
        wait_for(lambda: listens(self.options.host, port), 'the S3 server')
        return port

    def service(self, namespace, name, port, to):
        """A Service that leads to a port of this machine; its address."""
        apply({'apiVersion': 'v1', 'kind': 'Service', 'metadata': {'name': name}, 'spec': {'ports': [{'port': port, 'targetPort': to}]}},
              {'apiVersion': 'v1', 'kind': 'Endpoints', 'metadata': {'name': name},
               'subsets': [{'addresses': [{'ip': self.options.host}], 'ports': [{'port': to}]}]}, namespace=namespace)
        return run('kubectl', '-n', namespace, 'get', 'service', name, '-o', 'jsonpath={.spec.clusterIP}')

    def images(self):
        """One layer for all stand-ins, and the executor's."""
        root, busybox = self.path('root'), shutil.which('busybox')
        os.makedirs(f'{root}/bin')
        shutil.copy(busybox, f'{root}/bin/busybox')
        for name in run(busybox, '--list').split():
            if name != 'busybox':
                os.symlink('busybox', f'{root}/bin/{name}')
        os.symlink('sh', f'{root}/bin/bash')
        for name, text in PROGRAMS.items():
            os.makedirs(os.path.dirname(f'{root}/{name}'), exist_ok=True)
            if os.path.lexists(f'{root}/{name}'):
                os.unlink(f'{root}/{name}')
            open(f'{root}/{name}', 'w').write(f'#!/bin/sh\n{text}\n')
            os.chmod(f'{root}/{name}', 0o755)
        for name in ('tmp', 'etc', 'root', 'code', 'src'):
            os.makedirs(f'{root}/{name}')
        open(f'{root}/etc/passwd', 'w').write('root:x:0:0:root:/root:/bin/sh\n')
        os.chmod(f'{root}/tmp', 0o1777)
        layout(root, self.path('stand-in'))
        for name in IMAGES:
            full = name if name.startswith('gcr.io/') else name if '/' in name else f'library/{name}'
            self.push('stand-in', full.removeprefix('gcr.io/'))
        root = self.path('executor')
        for name in ('bin', 'tmp', 'etc/ssl/certs', 'etc/ssh'):
            os.makedirs(f'{root}/{name}')
        os.chmod(f'{root}/tmp', 0o1777)
        shutil.copy(f'{self.options.programs}/argoexec', f'{root}/bin/argoexec')
        shutil.copy(self.path('tls/public.crt'), f'{root}/etc/ssl/certs/ca-certificates.crt')
        public = open(self.path('host.pub')).read().split()
        open(f'{root}/etc/ssh/ssh_known_hosts', 'w').write(f'{BITBUCKET} {public[0]} {public[1]}\n')
        open(f'{root}/etc/passwd', 'w').write('root:x:0:0:root:/root:/bin/sh\n')
        layout(root, self.path('executor-image'), ['argoexec'])
        self.push('executor-image', EXECUTOR.removeprefix('quay.io/'))

    def push(self, image, name):
        run('skopeo', 'copy', '-q', '--dest-tls-verify=false', f'oci:{self.path(image)}:latest', f'docker://{self.options.registry}/{name}')


def free_port(host):
    with socket.socket() as s:
        s.bind((host, 0))
        return s.getsockname()[1]


def listens(host, port):
    with socket.socket() as s:
        return s.connect_ex((host, port)) == 0


def wait_for(what, name, seconds=60):
    end = time.time() + seconds
    while time.time() < end:
        found = what()
        if found:
            return found
        time.sleep(0.3)
    raise SystemExit(f'{name}: not after {seconds} s')


def layout(root, out, entrypoint=None):
    """A one-layer OCI image layout of a directory."""
    os.makedirs(f'{out}/blobs/sha256')

    def put(data, media):
        digest = hashlib.sha256(data).hexdigest()
        open(f'{out}/blobs/sha256/{digest}', 'wb').write(data)
        return {'mediaType': f'application/vnd.oci.image.{media}', 'digest': f'sha256:{digest}', 'size': len(data)}

    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode='w') as tar:
        tar.add(root, arcname='.')
    layer = put(gzip.compress(raw.getvalue(), 1), 'layer.v1.tar+gzip')
    config = {'Env': ['PATH=/usr/local/bin:/usr/bin:/bin'], **({'Entrypoint': entrypoint} if entrypoint else {'Cmd': ['sh']})}
    diff = 'sha256:' + hashlib.sha256(raw.getvalue()).hexdigest()
    whole = {'architecture': 'amd64', 'os': 'linux', 'config': config, 'rootfs': {'type': 'layers', 'diff_ids': [diff]}}
    config = put(json.dumps(whole).encode(), 'config.v1+json')
    manifest = {'schemaVersion': 2, 'mediaType': 'application/vnd.oci.image.manifest.v1+json', 'config': config, 'layers': [layer]}
    manifest = put(json.dumps(manifest).encode(), 'manifest.v1+json')
    manifest['annotations'] = {'org.opencontainers.image.ref.name': 'latest'}
    json.dump({'schemaVersion': 2, 'manifests': [manifest]}, open(f'{out}/index.json', 'w'))
    json.dump({'imageLayoutVersion': '1.0.0'}, open(f'{out}/oci-layout', 'w'))


def settings(world, namespace, archive_logs):
    """The ConfigMap of the article's controller, and what it must have here besides."""
    images = {name: {'entrypoint': e} if e else {'cmd': ['sh']} for name, e in IMAGES.items() if e is not None}
    if namespace == 'argo':
        config = yaml.safe_load(seed('002/workflow-controller-configmap.yaml')['data']['config'])
        config['executor']['env'] = [{'name': 'AWS_CONTAINER_CREDENTIALS_FULL_URI', 'value': world.role_url}]
    else:
        config = seed('000/artifact-repository.values.yaml')
        config['artifactRepository']['archiveLogs'] = archive_logs
    return {'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': 'workflow-controller-configmap'},
            'data': {'config': yaml.safe_dump({**config, 'images': images})}}


def prepare(world, namespace):
    """All that the articles have before their workflows run; the names of the outside world, for `hostAliases`."""
    apply({'apiVersion': 'v1', 'kind': 'Namespace', 'metadata': {'name': namespace}})
    account = ACCOUNTS[namespace]
    binding = {'apiVersion': 'rbac.authorization.k8s.io/v1', 'kind': 'RoleBinding', 'metadata': {'name': 'executor'},
               'roleRef': {'apiGroup': 'rbac.authorization.k8s.io', 'kind': 'ClusterRole', 'name': 'cluster-admin'},
               'subjects': [{'kind': 'ServiceAccount', 'name': n, 'namespace': namespace} for n in (account, 'default')]}
    secret = lambda name, data: {'apiVersion': 'v1', 'kind': 'Secret', 'metadata': {'name': name}, 'stringData': data}
    apply({'apiVersion': 'v1', 'kind': 'ServiceAccount', 'metadata': {'name': account}}, binding, secret('minio', KEYS),
          secret('docker-secret', {'.dockerconfigjson': '{}'}), secret('regcred', {'.dockerconfigjson': '{}'}),
          secret('bitbucket-creds', {'id_rsa': open(world.path('id_rsa')).read()}),
          {'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': 'docker-config'}, 'data': {'config.json': '{"credsStore": "ecr-login"}'}},
          namespace=namespace)
    world.service(namespace, 'minio', 9000, world.plain)
    return [{'ip': world.service(namespace, name, port, to), 'hostnames': names} for name, port, to, names in (
        ('github', 443, world.git_port, [GITHUB]), ('bitbucket', 22, world.ssh_port, [BITBUCKET]), ('s3', 443, world.tls, S3_NAMES))]


def controller(world, namespace):
    """The real controller, for this namespace only."""
    config = yaml.safe_load(run('kubectl', 'config', 'view', '--raw', '--minify', '--flatten'))
    config['contexts'][0]['context']['namespace'] = namespace
    file = world.path('kubeconfig')
    os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))
    yaml.safe_dump(config, open(file, 'w'))
    env = {**os.environ, 'LEADER_ELECTION_DISABLE': 'true', 'LEADER_ELECTION_IDENTITY': 'x', 'DEFAULT_REQUEUE_TIME': '1s'}
    program = f'{world.options.programs}/workflow-controller'
    return world.start(program, '--kubeconfig', file, '--namespaced', '--managed-namespace', namespace, '--configmap', 'workflow-controller-configmap',
                       '--executor-image', EXECUTOR, '--executor-image-pull-policy', 'Always', log=f'controller-{namespace}.log', env=env)


def record(world, case, namespace, aliases):
    """Submits as the article does, waits, and gives the Workflow."""
    argo = lambda *a: run(f'{world.options.programs}/argo', '-n', namespace, *a)
    for name in case.get('before', []):
        apply(seed(name), namespace=namespace)
    parameters = [w for p in case.get('parameters', []) for w in ('-p', p)]
    if 'template' in case:
        template = seed(case['template'])
        template['spec']['hostAliases'] = aliases
        apply(template, namespace=namespace)
        name = argo('submit', '--from', f'workflowtemplate/{template["metadata"]["name"]}', '--entrypoint', case['entrypoint'], '-o', 'name', *parameters)
    else:
        workflow = seed(case['file'])
        workflow['spec']['hostAliases'] = aliases
        if 'event' in case:
            event = {'event_type': case['event'], 'revision': world.commits['airbnb/k8s-webhook-handler'], 'repo_ssh': HTTPS,
                     'ref': 'refs/heads/master' if case['event'] == 'push' else 'feature/x'}
            workflow['metadata']['annotations'] = {f'k8s-webhook-handler.io/{k}': v for k, v in event.items()}
        file = world.path('workflow.yaml')
        yaml.safe_dump(workflow, open(file, 'w'))
        name = argo('submit', file, '-o', 'name', *parameters)
    name = name.strip().removeprefix('workflow.argoproj.io/')
    get = lambda: json.loads(run('kubectl', '-n', namespace, 'get', 'workflow', name, '-o', 'json'))
    ended = lambda: get()['metadata'].get('labels', {}).get('workflows.argoproj.io/completed') == 'true'
    wait_for(ended, f'{name} ends', 240)
    workflow = get()
    if workflow['status']['phase'] != 'Succeeded':
        raise SystemExit(f'{name}: {json.dumps(workflow["status"], indent=1)}')
    run('kubectl', '-n', namespace, 'delete', 'workflow', name)
    return workflow


def normal(workflow, commits):
    """The normal form of `tables/rules.yaml`."""
    name, status = workflow['metadata']['name'], workflow['status']
    names = {i: n['name'] for i, n in status['nodes'].items()}

    def text(value):
        if isinstance(value, dict):
            return {k: text(v) for k, v in value.items()}
        if isinstance(value, list):
            return [text(v) for v in value]
        if not isinstance(value, str):
            return value
        for commit in commits:
            value = 'SHORT' if value == commit[:7] else value.replace(commit, 'COMMIT')
        for id, node in names.items():
            if id != name:
                value = value.replace(id.removeprefix(f'{name}-'), f'<{node}>')
        return value.replace(name, '@')

    nodes = {}
    for id, node in sorted(status['nodes'].items(), key=lambda n: n[1]['name']):
        unknown = set(node) - set(RULES['keep']) - set(RULES['drop']) - {'id'}
        if unknown:
            raise SystemExit(f'{node["name"]} has {unknown}: neither kept nor dropped in rules.yaml')
        kept = {k: node[k] for k in RULES['keep'] if k in node}
        for key in ('children', 'outboundNodes'):
            if key in kept:
                kept[key] = [names[i] for i in kept[key]]
        if 'boundaryID' in kept:
            kept['boundaryID'] = names[kept['boundaryID']]
        nodes[node['name'].replace(name, '@')] = {'id': id, **text(kept)}
    table = {'workflow': name, 'phase': status['phase']}
    if status.get('message'):
        table['message'] = text(status['message'])
    return {**table, 'nodes': nodes}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ('programs', 'crds', 'minio', 'registry', 'host'):
        parser.add_argument(f'--{name}', required=True)
    parser.add_argument('tables', nargs='*', default=list(CASES))
    options = parser.parse_args()
    world = World(options)
    try:
        for file in sorted(os.listdir(options.crds)):
            if file.startswith('argoproj.io_'):
                run('kubectl', 'apply', '--server-side', '-f', f'{options.crds}/{file}')
        world.plain = world.store(False, 'argo-bucket')
        world.tls = world.store(True, 'k8s-argo-artifacts-bucket.bouweceunen.com')
        world.images()
        current, aliases, running = None, None, None
        for name in options.tables:
            case = CASES[name]
            namespace = NAMESPACES[name[:3]]
            wanted = (namespace, case.get('archive_logs', False))
            if wanted != current:
                if running:
                    running.terminate()
                    running.wait()
                    world.children.remove(running)
                aliases = prepare(world, namespace)
                apply(settings(world, *wanted), namespace=namespace)
                running, current = controller(world, namespace), wanted
            workflow = record(world, case, namespace, aliases)
            table = normal(workflow, world.commits.values())
            head = [f'The node table of {case.get("file") or case["template"]}, as Argo v4.1.2 made it. Written by record.py.',
                    'Not as the article has it:',
                    '- images are stand-ins that make what is declared and end well; their entrypoints are in `images:`',
                    '- `hostAliases`: the outside world’s names lead to servers of the recording machine',
                    *(f'- {line}' for line in case.get('differs', []))]
            with open(f'{HERE}/tables/{name}.yaml', 'w') as out:
                out.writelines(f'# {line}\n' for line in head)
                yaml.safe_dump(table, out, sort_keys=False, allow_unicode=True, width=118)
            print(name, table['phase'], len(table['nodes']), 'nodes', flush=True)
        for namespace in {NAMESPACES[name[:3]] for name in options.tables}:
            run('kubectl', 'delete', 'namespace', namespace, '--wait=false')
    except BaseException:
        print(f'what was said is in {world.dir}', file=sys.stderr)
        world.end = lambda: [c.terminate() for c in world.children]
        raise
    finally:
        world.end()


main()
