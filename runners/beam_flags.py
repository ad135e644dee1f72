"""Beam's own options: those that are told from ours by name, and all others, which stand behind ``--``."""

from __future__ import annotations

from collections.abc import Sequence

# Those that say where a run happens, with a value each. Beam has some 200 more: a slip of the finger in one of ours
# must not land in them, such as --dry_run, which does not keep a run on this machine from running.
KNOWN = frozenset(
    "--runner --project --region --temp_location --staging_location --job_name --labels --service_account_email "
    "--subnetwork --network --num_workers --max_num_workers --autoscaling_algorithm --worker_machine_type "
    "--machine_type --disk_size_gb --worker_disk_type --worker_zone --sdk_container_image --sdk_location --experiments "
    "--dataflow_service_options --setup_file --requirements_file --extra_package --job_endpoint --artifact_endpoint "
    "--environment_type --environment_config --environment_option --environment_options --environment_cache_millis "
    "--sdk_worker_parallelism --job_server_timeout --artifacts_dir --prism_location --flink_master --template_location "
    "--spark_master_url --spark_job_server_jar --dataflow_endpoint "
    "--flink_version --flink_conf_dir --flink_job_server_jar --parallelism --max_parallelism "
    "--s3_access_key_id --s3_secret_access_key --s3_session_token --s3_endpoint_url --s3_region_name "
    "--s3_api_version --s3_verify --s3_disable_ssl".split()
)
_WITHOUT_VALUE = frozenset(
    "--no_use_public_ips --use_public_ips --save_main_session --enable_streaming_engine --no_auth --shared_disk".split()
)


def split_flags(typed: Sequence[str]) -> tuple[list[str], list[str]]:
    """What was typed for us, and what is Beam's: options that are ``KNOWN``, and all that stands behind ``--``."""
    at = list(typed).index("--") if "--" in typed else len(typed)
    ours: list[str] = []
    beams: list[str] = []
    waiting = list(typed[:at])
    while waiting:
        word = waiting.pop(0)
        name, equals, _ = word.partition("=")
        if name not in KNOWN | _WITHOUT_VALUE:
            ours.append(word)
            continue
        beams.append(word)
        if name in KNOWN and not equals and waiting and not waiting[0].startswith("--"):
            beams.append(waiting.pop(0))
    return ours, [*beams, *typed[at + 1 :]]
