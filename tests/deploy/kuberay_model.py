"""The fields of KubeRay's custom resources that deploy/ uses, and nothing else.

It stands beside the real definitions so that a misspelt key is found where those are not at hand,
and holds what they leave open: the mode of authentication, the autoscaler's version, the head that
does no work.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=47)]
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|[kKMGT]i?)?$")]
Count = Annotated[int, Field(ge=0)]
Port = Annotated[str, Field(pattern=r"^[0-9]{2,5}$")]


class Strict(BaseModel):
    """Refuses unknown keys, and takes no text for a number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Metadata(Strict):
    name: Name
    labels: dict[str, str]


class PodMetadata(Strict):
    labels: dict[str, str]


class PodTemplate(Strict):
    metadata: PodMetadata
    spec: dict[str, Any]
    """Kubernetes' own; held against its schema."""


class Resources(Strict):
    requests: dict[str, Quantity]
    limits: dict[str, Quantity]


class Capabilities(Strict):
    drop: list[Literal["ALL"]]


class ContainerSecurity(Strict):
    allowPrivilegeEscalation: Literal[False]
    capabilities: Capabilities


class AuthOptions(Strict):
    mode: Literal["token"]
    secretName: Name


class AutoscalerOptions(Strict):
    version: Literal["v2"]
    upscalingMode: Literal["Default", "Conservative"]
    idleTimeoutSeconds: Count
    resources: Resources
    securityContext: ContainerSecurity


class KeyOfSecret(Strict):
    name: Name
    key: str


class FromSecret(Strict):
    secretKeyRef: KeyOfSecret


class RedisPassword(Strict):
    valueFrom: FromSecret


class GcsFaultTolerance(Strict):
    redisAddress: str = Field(pattern=r"^[a-z0-9.-]+:[0-9]+$")
    redisPassword: RedisPassword


class HeadStartParams(Strict):
    num_cpus: Literal["0"] = Field(alias="num-cpus")
    port: Port
    dashboard_host: Literal["127.0.0.1", "0.0.0.0"] = Field(alias="dashboard-host")
    dashboard_port: Port = Field(alias="dashboard-port")
    ray_client_server_port: Port = Field(alias="ray-client-server-port")
    metrics_export_port: Port = Field(alias="metrics-export-port")


class WorkerStartParams(Strict):
    metrics_export_port: Port = Field(alias="metrics-export-port")


class HeadGroup(Strict):
    serviceType: Literal["ClusterIP"]
    rayStartParams: HeadStartParams
    template: PodTemplate


class WorkerGroup(Strict):
    groupName: Name
    minReplicas: Count
    maxReplicas: Count
    rayStartParams: WorkerStartParams
    template: PodTemplate

    @model_validator(mode="after")
    def _range(self) -> "WorkerGroup":
        if self.minReplicas > self.maxReplicas:
            raise ValueError("minReplicas is above maxReplicas")
        return self


class ClusterSpec(Strict):
    rayVersion: str = Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")
    authOptions: AuthOptions
    enableInTreeAutoscaling: Literal[True]
    autoscalerOptions: AutoscalerOptions
    gcsFaultToleranceOptions: GcsFaultTolerance
    headGroupSpec: HeadGroup
    workerGroupSpecs: list[WorkerGroup] = Field(min_length=1)


class SubmitterConfig(Strict):
    backoffLimit: Count


class JobSpec(Strict):
    entrypoint: str = Field(min_length=1)
    entrypointNumCpus: Annotated[int, Field(ge=1)]
    submissionMode: Literal["K8sJobMode"]
    backoffLimit: Annotated[int, Field(ge=1)]
    preRunningDeadlineSeconds: Count
    activeDeadlineSeconds: Count
    shutdownAfterJobFinishes: Literal[True]
    ttlSecondsAfterFinished: Count
    submitterConfig: SubmitterConfig
    submitterPodTemplate: PodTemplate
    rayClusterSpec: ClusterSpec


class RayCluster(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: Metadata
    spec: ClusterSpec


class RayJob(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: JobSpec


MODELS: dict[str, type[Strict]] = {"RayCluster": RayCluster, "RayJob": RayJob}


def model_problems(resource: dict[str, Any]) -> list[str]:
    """Hold a custom resource against its model."""
    try:
        MODELS[resource["kind"]].model_validate(resource)
    except ValidationError as error:
        return [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    return []
