"""What has to hold of rendered manifests: functions over documents, each of which returns its complaints.

A check knows nothing of how the documents were made, so `test_checks_can_fail.py` can break a document and see whether
it complains.
"""

from __future__ import annotations

from collections.abc import Callable

from checks import availability, credentials, environment, network, scaling, schemas, security, storage
from manifests import Documents

Check = Callable[[Documents], list[str]]

ALL: dict[str, Check] = {
    check.__name__: check
    for check in (
        schemas.documents_are_valid,
        schemas.documents_are_unique,
        network.selectors_take_the_right_pods,
        network.ports_lead_to_the_gateway,
        network.probes_ask_what_the_gateway_answers,
        network.metrics_are_scraped_once,
        network.all_traffic_is_denied_by_default,
        network.the_gateway_reaches_what_it_needs,
        network.endpoints_in_the_cluster_are_reached,
        network.only_monitoring_comes_in,
        environment.names_are_settings,
        environment.required_settings_are_there,
        environment.the_client_id_is_the_pods_name,
        environment.services_set_nothing,
        credentials.secret_settings_are_files,
        credentials.files_are_in_a_mounted_secret,
        credentials.references_lead_somewhere,
        credentials.nothing_here_is_a_secret,
        storage.volumes_and_mounts_agree,
        storage.the_inbox_outlives_the_pod,
        storage.deleting_it_deletes_no_inbox,
        storage.the_inbox_fits_its_volume,
        storage.the_log_fits_its_volume,
        storage.what_is_written_can_be_written,
        security.pods_are_restricted,
        security.containers_are_restricted,
        security.no_token_is_mounted,
        security.nothing_is_executed,
        security.images_are_pinned,
        availability.one_pod_may_be_evicted,
        availability.there_is_time_to_drain,
        availability.there_is_time_to_start,
        availability.the_end_says_why,
        availability.volumes_hold_up_no_node,
        availability.resources_are_bounded,
        availability.memory_covers_the_largest_payloads,
        availability.replicas_are_spread,
        availability.rollouts_go_one_by_one,
        scaling.replicas_are_shards,
        scaling.the_autoscaler_strands_nothing,
        scaling.who_retires_is_gone,
        scaling.a_drained_node_is_no_attempt,
    )
}
