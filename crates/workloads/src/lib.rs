//! The loops that kube-controller-manager has: Deployment, ReplicaSet, endpoints, garbage collection.
