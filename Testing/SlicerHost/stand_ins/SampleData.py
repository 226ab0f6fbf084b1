"""The registry of Slicer's module Sample Data, without its panel and its downloads."""

import slicer


class SampleDataSource:
    def __init__(self, **described):
        self.__dict__.update(described)

    def __eq__(self, other):
        return isinstance(other, SampleDataSource) and self._key() == other._key()

    def _key(self):
        return {name: value for name, value in vars(self).items() if name != "customDownloader"}

    __hash__ = None


class SampleDataLogic:
    @staticmethod
    def registerCustomSampleDataCategory(category, title):
        _registry("sampleDataSourceCategories").setdefault(category, {})["title"] = title

    @staticmethod
    def registerCustomSampleDataSource(
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileTypes=None,
        loadFiles=None,
        loadFileProperties=None,
        checksums=None,
        loadFileType=None,
    ):
        described = {name: value for name, value in locals().items() if name != "category"}
        source = SampleDataSource(**described)
        sources = _registry("sampleDataSources").setdefault(category, [])
        if source not in sources:
            sources.append(source)

    @staticmethod
    def categoryTitle(category):
        return _registry("sampleDataSourceCategories").get(category, {}).get("title", category)

    @staticmethod
    def sampleDataSourcesByCategory(category=None):
        sources = _registry("sampleDataSources")
        return sources if category is None else sources.get(category, [])


def _registry(name):
    if not hasattr(slicer.modules, name):
        setattr(slicer.modules, name, {})
    return getattr(slicer.modules, name)
