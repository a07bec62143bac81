//! `windlass build`: the verb as users type it; what the builder does is tested in its own crate.

use crate::house::House;

#[test]
fn an_image_is_built_and_found_by_its_name() {
    let Some(house) = House::new("windlass build") else { return };
    let context = house.path("app");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("words"), "from the context\n").unwrap();
    std::fs::write(
        context.join("Dockerfile"),
        "FROM busybox\nARG WHO\nCOPY words /words\nRUN cat /words && echo \"built by $WHO\"\nCMD [\"cat\", \"/words\"]\n",
    )
    .unwrap();
    let context = context.to_string_lossy().into_owned();
    let build = ["build", &context, "--build-arg", "WHO=the test"];
    let done = house.windlass(&build).ok();
    done.says(&["from the context", "built by the test", "registry.windlass.internal/app@sha256:", "0 of 2 steps"]);
    // Everything is known now.
    house.windlass(&build).ok().says(&["2 of 2 steps from the cache"]);
    house.windlass(&["build", &context, "--no-cache", "-t", "example.com/team/app:v1", "--no-push", "-o", "json"]).ok();
    house.windlass(&["image", "ls"]).ok().says(&["registry.windlass.internal/app ", "example.com/team/app:v1"]);
}

#[test]
fn faults_come_with_their_place_and_exit_codes() {
    let Some(house) = House::new("windlass build, faults") else { return };
    let file = house.file("Dockerfile", "FROM busybox\nRUN exit 7\n");
    let context = std::path::Path::new(&file).parent().unwrap().to_string_lossy().into_owned();
    house.windlass(&["build", &context]).exits(7).says(&["Step 2/2 : RUN exit 7"]);
    house.file("Dockerfile", "FROM busybox\nCOPPY a b\n");
    house.windlass(&["build", &context]).exits(1).says(&["COPPY", "did you mean COPY?", "Dockerfile:2:1"]);
    house.windlass(&["build", "/nowhere"]).exits(1).says(&["/nowhere"]);
}
